"""The contract of the registries of watches (hub/watch.py), clause by clause: on the hub, asyncio and uvloop."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
from support.hub import turns

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.watch import Watch, Watches
from hybrid.workers.loops import registry
from hybrid.workers.pollers.contract import READ, WRITE


class World:
    """One loop, its registry, and a pair of connected sockets: the left one is watched."""

    def __init__(self, name: str) -> None:
        driver = registry.load(name)
        self.loop = driver.new_loop()
        runtime = driver.runtime(self.loop)
        assert isinstance(runtime, HubRuntime)
        self.watches: Watches = runtime.watches
        self.left, self.right = socket.socketpair()
        self.left.setblocking(False)
        self.seen: list[str] = []  # which waiters were woken, in order

    def watch(self) -> Watch:
        return self.watches.open(self.left.fileno())

    def wait_to_read(self, watch: Watch, name: str = "read") -> None:
        watch.on_readable = lambda: self.seen.append(name)

    def wait_to_write(self, watch: Watch, name: str = "write") -> None:
        watch.on_writable = lambda: self.seen.append(name)

    def fill(self) -> None:
        try:
            while True:
                self.left.send(bytes(65536))
        except BlockingIOError:
            return

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10):
                await main()

        self.loop.run_until_complete(limited())

    def close(self) -> None:
        self.loop.close()
        self.left.close()
        self.right.close()


@pytest.fixture(params=["select", "poll", "epoll", "asyncio", "uvloop"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.close()


def test_1_a_new_watch_has_nothing_armed(world: World) -> None:
    watch = world.watch()
    world.wait_to_read(watch)
    world.right.send(b"x")
    world.run(turns)
    assert (watch.fd, watch.armed, world.seen) == (world.left.fileno(), 0, [])


def test_2_an_armed_watch_wakes_its_reader_once(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.wait_to_read(watch)
        world.watches.arm(watch, READ)
        await turns()
        assert world.seen == []
        world.right.send(b"x")
        await turns()
        assert (world.seen, watch.on_readable) == (["read"], None)
        world.watches.release(watch)

    world.run(main)


def test_2_arming_adds_to_the_armed_directions(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.wait_to_read(watch)
        world.watches.arm(watch, READ)
        world.wait_to_write(watch)
        world.watches.arm(watch, WRITE)
        assert watch.armed == READ | WRITE
        await turns()
        assert world.seen == ["write"]
        world.right.send(b"x")
        await turns()
        assert world.seen == ["write", "read"]
        world.watches.release(watch)

    world.run(main)


def test_2_both_waiters_of_one_watch_are_woken(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.wait_to_read(watch)
        world.wait_to_write(watch)
        world.right.send(b"x")
        world.watches.arm(watch, READ | WRITE)
        await turns()
        assert sorted(world.seen) == ["read", "write"]
        world.watches.release(watch)

    world.run(main)


def test_2_a_waiter_may_wait_again_in_its_callback(world: World) -> None:
    async def main() -> None:
        watch = world.watch()

        def again() -> None:
            world.seen.append(world.left.recv(1).decode())
            watch.on_readable = again

        watch.on_readable = again
        world.watches.arm(watch, READ)
        world.right.send(b"abc")
        await turns(10)
        assert world.seen == ["a", "b", "c"]
        world.watches.release(watch)

    world.run(main)


def test_2_a_direction_disarmed_for_lack_of_waiters_can_be_armed_again(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.watches.arm(watch, READ)
        world.right.send(b"x")
        await turns()
        assert watch.armed == 0
        world.wait_to_read(watch)
        world.watches.arm(watch, READ)
        await turns()
        assert world.seen == ["read"]
        world.watches.release(watch)

    world.run(main)


def test_2_arming_a_closed_descriptor_is_an_os_error(world: World) -> None:
    watch = world.watch()
    world.left.close()
    with pytest.raises(OSError, match=r".") as raised:
        world.watches.arm(watch, READ)
    assert raised.value.errno == errno.EBADF
    world.watches.release(watch)


def test_3_release_disarms_and_wakes_both_waiters(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.fill()
        world.wait_to_read(watch)
        world.wait_to_write(watch)
        world.watches.arm(watch, READ | WRITE)
        await turns()
        assert world.seen == []
        world.watches.release(watch)
        assert (watch.fd, watch.armed) == (-1, 0)
        await turns()
        assert sorted(world.seen) == ["read", "write"]
        assert (watch.on_readable, watch.on_writable) == (None, None)

    world.run(main)


def test_3_release_does_not_wake_a_waiter_that_was_woken_meanwhile(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.wait_to_read(watch)
        world.watches.arm(watch, READ)
        world.watches.release(watch)
        watch.on_readable = None  # as a greenlet does that is killed in the same turn
        await turns()
        assert world.seen == []

    world.run(main)


def test_3_release_may_come_twice(world: World) -> None:
    async def main() -> None:
        watch = world.watch()
        world.wait_to_read(watch)
        world.watches.arm(watch, READ)
        world.watches.release(watch)
        world.watches.release(watch)
        await turns()
        assert world.seen == ["read"]

    world.run(main)


def test_3_a_released_watch_cannot_be_armed(world: World) -> None:
    watch = world.watch()
    world.watches.release(watch)
    with pytest.raises(OSError, match="closed") as raised:
        world.watches.arm(watch, READ)
    assert raised.value.errno == errno.EBADF


def test_3_the_number_is_free_for_another_watch_after_release(world: World) -> None:
    async def main() -> None:
        first = world.watch()
        world.wait_to_read(first, "first")
        world.watches.arm(first, READ)
        world.watches.release(first)
        second = world.watch()
        world.wait_to_read(second, "second")
        world.watches.arm(second, READ)
        await turns()
        assert world.seen == ["first"]
        world.right.send(b"x")
        await turns()
        assert world.seen == ["first", "second"]
        world.watches.release(second)

    world.run(main)


def test_3_release_after_the_loop_was_closed_does_nothing(world: World) -> None:
    watch = world.watch()
    world.wait_to_read(watch)
    world.watches.arm(watch, READ)
    world.loop.close()
    world.watches.release(watch)
    assert (watch.fd, world.seen) == (-1, [])
