"""A zygote of the fake kernel: it takes the orders of the supervisor, and the test decides how it handles them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from collections.abc import Callable

from hybrid.supervisor.core.events import How
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import CannotSpawn, Forked, Learn, Message, Spawn, Warm
from support.fake_kernel import FakeKernel


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """An order to fork, and what came with it."""

    spawn: Spawn
    channel: Channel
    dump_fd: int


class FakeZygote:
    """The child `pid` of a fake kernel. `dies` closes unused descriptors."""

    def __init__(self, kernel: FakeKernel, pid: int) -> None:
        self.pid = pid
        self.orders: list[Order] = []  # taken and not yet obeyed, oldest first
        self.learnt: dict[int, list[str]] = {}  # slot -> names of the listeners that were handed over
        self._kernel = kernel

    def says_warm(self) -> None:
        """Say that it can fork."""
        self._kernel.says(self.pid, Warm())

    def takes_orders(self) -> None:
        """Read the messages of the supervisor."""
        while (taken := self._kernel.alive[self.pid].take_over_nowait()) is not None:
            self._take(*taken)

    def _take(self, message: Message, descriptors: list[int]) -> None:
        match message, descriptors:
            case Spawn(), [channel, dump_fd]:
                self.orders.append(Order(message, Channel(socket.socket(fileno=channel)), dump_fd))
            case Learn(slot=slot), _:
                self.learnt[slot] = [_name(fd) for fd in descriptors]
            case _:
                raise AssertionError(f"no order for a zygote: {message} with {descriptors}")

    def forks(self, *, says_forked: bool = True, is_ours: bool = True) -> int:
        """Obey the oldest order; return the pid of the worker. `is_ours`: the kernel gives it to the supervisor."""
        self.takes_orders()
        order = self.orders.pop(0)
        os.close(order.dump_fd)
        pid = self._kernel.bears(order.channel, is_ours=is_ours)
        if says_forked:
            with contextlib.suppress(ChannelClosed):  # it was called off
                self._kernel.says(pid, Forked(pid))
        return pid

    def serves(self) -> int:
        """Obey the oldest order with a worker that serves at once; return its pid."""
        pid = self.forks()
        with contextlib.suppress(ChannelClosed):
            self._kernel.says_ready(pid)
        return pid

    def forks_who_says(self, message: Message | bytes) -> int:
        """Obey the oldest order, with a worker that has another first message; return its pid."""
        pid = self.forks(says_forked=False)
        if isinstance(message, bytes):
            os.write(self._kernel.alive[pid].fileno(), message)
        else:
            self._kernel.says(pid, message)
        return pid

    def cannot(self, reason: str) -> None:
        """Fail to obey the oldest order."""
        self.takes_orders()
        order = self.orders.pop(0)
        self._close(order)
        self._kernel.says(self.pid, CannotSpawn(order.spawn.slot, reason))

    def loses_worker(self) -> None:
        """Obey the oldest order with a worker that dies before its first message."""
        self.takes_orders()
        self._close(self.orders.pop(0))

    def dies(self, how: How) -> None:
        """Die, and close the descriptors."""
        with contextlib.suppress(ChannelClosed):
            self.takes_orders()
        self.drops_orders()
        self._kernel.dies(self.pid, how)

    def drops_orders(self) -> None:
        """Close what came with the orders that it has not obeyed."""
        for order in self.orders:
            self._close(order)
        self.orders.clear()

    def _close(self, order: Order) -> None:
        order.channel.close()
        os.close(order.dump_fd)


class Zygotes:
    """All children that a fake kernel forks: zygotes that are warm at once, and do with each order what `do` does."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.all: list[FakeZygote] = []
        self.do: Callable[[FakeZygote], object] = FakeZygote.serves
        self.is_over = False
        """From now on, each forked child is a worker that serves at once."""
        self._kernel = kernel
        kernel.on_fork(self._be)
        kernel.always(self._work)

    @property
    def last(self) -> FakeZygote:
        """The newest one."""
        return self.all[-1]

    def _be(self, pid: int) -> None:
        if self.is_over:
            self._kernel.says_ready(pid)
            return
        self.all.append(FakeZygote(self._kernel, pid))
        self.last.says_warm()

    def _work(self) -> None:
        for zygote in self.all:
            if zygote.pid not in self._kernel.alive:
                zygote.drops_orders()
                continue
            with contextlib.suppress(ChannelClosed):
                zygote.takes_orders()
            for _ in range(len(zygote.orders)):
                self.do(zygote)

    def close(self) -> None:
        """Close the descriptors of pending orders."""
        for zygote in self.all:
            zygote.drops_orders()


def _name(fd: int) -> str:
    with socket.socket(fileno=fd) as sock:
        return "{}:{}".format(*sock.getsockname()[:2])
