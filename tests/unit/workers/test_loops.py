"""The registry of loops, running a script on a loop, and gevent (in a separate process, which it patches)."""

from __future__ import annotations

import ast
import asyncio
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import run_on
from support.loops import ALL_LOOPS, LOOPS

import hybrid
from hybrid.workers import green, identity
from hybrid.workers import main as entry
from hybrid.workers.boot.application import Application
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.worker_spec import ListenerKind
from hybrid.workers.loops import registry

HERE = [loop for loop in LOOPS if loop != "gevent"]  # those that leave the process as it is


@pytest.fixture(autouse=True)
def _limits_as_before() -> Iterator[None]:
    """The loop `select` lowers the limit of descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- the registry


def test_the_table_has_six_loops_in_order() -> None:
    assert tuple(registry.LOOPS) == ALL_LOOPS


@pytest.mark.parametrize("name", ALL_LOOPS)
def test_every_loop_is_usable_here(name: str) -> None:
    assert registry.resolve(name) == name
    assert registry.why_unusable(name) is None


def test_auto_is_epoll() -> None:
    assert registry.resolve("auto") == "epoll"


def test_an_unknown_loop_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown loop 'epol' \(did you mean 'epoll'\?\): use auto, select, poll"):
        registry.resolve("epol")
    with pytest.raises(ValueError, match=r"unknown loop 'zzz': use auto"):
        registry.resolve("zzz")


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = registry.LoopSpec("odd", "odd_loop", "", ("no_such_package", "greenlet"))
    monkeypatch.setattr(registry, "LOOPS", {"odd": spec, "kqueue": registry.LoopSpec("kqueue", "x", "", (), "kqueue")})
    assert registry.why_unusable("odd") == "no_such_package is not installed: pip install no_such_package"
    assert registry.why_unusable("kqueue") == "this Python has no select.kqueue"
    with pytest.raises(BootError, match="loop odd cannot be used here: no_such_package is not installed") as raised:
        entry.check(Application(factory=print, loop="odd"), frozenset())
    assert raised.value.code is Exit.LOOP
    with pytest.raises(RuntimeError, match="loop odd cannot be used here"):
        green.run(print, loop="odd")


def test_a_driver_that_cannot_be_imported_is_a_boot_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOOPS", {"odd": registry.LoopSpec("odd", "no_such_module", "")})
    with pytest.raises(BootError, match=r"No module named .*; see `hybrid loops`"):
        entry.check(Application(factory=print, loop="odd"), frozenset())


def test_a_check_describes_the_target() -> None:
    def handle(sock: object, address: object) -> None: ...

    said = entry.check(Application(factory=handle, loop="epoll"), frozenset({ListenerKind.STREAM}))
    assert said == "sync stream handler on epoll"


# --- scripts


@pytest.mark.parametrize("loop", HERE)
def test_a_script_runs_on_a_loop_and_returns(loop: str) -> None:
    def main(value: str) -> str:
        hybrid.sleep(0.001)
        return value + hybrid.spawn(lambda: "!").get()

    async def amain(value: str) -> str:
        return value + await hybrid.green(main, "?")

    assert hybrid.run(main, "sync", loop=loop) == "sync!"
    assert hybrid.run(amain, "async", loop=loop) == "async?!"


@pytest.mark.parametrize("loop", HERE)
def test_the_functions_find_their_loop(loop: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(10)).upper())
        writer.close()
        await writer.wait_closed()

    def main() -> object:
        server = hybrid.await_(asyncio.start_server(answer, "127.0.0.1", 0))
        with hybrid.connect(server.sockets[0].getsockname(), timeout=5) as sock:
            sock.sendall(b"hello")
            answered = sock.recv(10)
        server.close()
        ended = hybrid.joinall([hybrid.spawn(hybrid.sleep, 0), hybrid.spawn(hybrid.sleep, 0.001)])
        return answered, len(ended)

    assert hybrid.run(main, loop=loop) == (b"HELLO", 2)


@pytest.mark.parametrize("loop", HERE)
def test_an_error_of_the_script_is_raised(loop: str) -> None:
    def main() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        hybrid.run(main, loop=loop)


def test_tasks_that_are_left_are_cancelled_and_one_that_refuses_is_not_waited_for() -> None:
    seen: list[str] = []

    async def left(refuses: bool) -> None:
        while True:
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError:
                seen.append("cancelled")
                if not refuses:
                    raise
                await asyncio.sleep(0.001)
                return

    async def main() -> None:
        tasks = [asyncio.create_task(left(refuses)) for refuses in (True, False)]
        await asyncio.sleep(0)
        assert len(tasks) == 2

    hybrid.run(main)
    assert seen == ["cancelled", "cancelled"]


def test_a_loop_within_a_loop_is_refused() -> None:
    def main() -> None:
        hybrid.run(print)

    with pytest.raises(RuntimeError, match="running"):
        hybrid.run(main)


def test_outside_of_a_loop_the_functions_say_so() -> None:
    with pytest.raises(RuntimeError, match="no hybrid loop runs in this thread"):
        hybrid.sleep(0)


def test_each_thread_has_its_own_loop() -> None:
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(hybrid.run(lambda: hybrid.sleep(0.01)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [None, None]

    async def elsewhere(runtime: object) -> None:
        with pytest.raises(RuntimeError, match="no hybrid loop runs in this thread"):
            await asyncio.to_thread(hybrid.sleep, 0)

    run_on("epoll", elsewhere)


def test_select_lowers_the_descriptor_limit_to_its_own() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    registry.load("select").prepare()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024
    registry.load("select").prepare()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, hard)


def test_outside_of_a_worker_identity_is_that_of_a_lone_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_current", None)
    assert identity.current() == identity.Identity("-", 0, 0, os.getpid(), "-")


# --- gevent

_GEVENT = """
import asyncio, os, socket, tempfile
import hybrid

def main():
    import gevent
    seen = []
    assert [item.value for item in hybrid.joinall([hybrid.spawn(lambda: 1), hybrid.spawn(lambda: 2)])] == [1, 2]
    assert type(hybrid.spawn(int)) is gevent.Greenlet
    hybrid.sleep(0.001)

    async def slowly(value):
        await asyncio.sleep(0.001)
        return value

    async def fail():
        raise LookupError("mine")

    assert hybrid.await_(slowly("value")) == "value"
    try:
        hybrid.await_(fail())
    except LookupError:
        seen.append("raised")

    async def wait():
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    waiting = hybrid.spawn(hybrid.await_, wait())
    hybrid.sleep(0.01)
    waiting.kill()
    early = hybrid.spawn(hybrid.await_, wait())
    hybrid.sleep(0)
    early.kill()
    hybrid.sleep(0.01)

    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    server = hybrid.await_(asyncio.start_server(serve, "127.0.0.1", 0))
    for timeout in (None, 5):
        with hybrid.connect(server.sockets[0].getsockname(), timeout) as sock:
            assert sock.gettimeout() == timeout
            sock.sendall(b"hello\\n")
            assert sock.recv(100) == b"HELLO\\n"
    server.close()

    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/s"
        try:
            hybrid.connect(path)
        except FileNotFoundError:
            seen.append("no such path")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        hybrid.connect(path, 5).close()
        listener.close()
    return seen

async def amain():
    import gevent
    seen = []

    def body(value):
        hybrid.sleep(0.001)
        return value

    def fail():
        raise LookupError("mine")

    def stay():
        try:
            hybrid.sleep(9)
        except gevent.GreenletExit:
            seen.append("killed")
            raise

    seen.append(await hybrid.green(body, "green"))
    try:
        await hybrid.green(fail)
    except LookupError:
        seen.append("raised")
    try:
        async with asyncio.timeout(0.01):
            await hybrid.green(stay)
    except TimeoutError:
        seen.append("timed out")
    await asyncio.sleep(0.01)
    for call in (lambda: hybrid.sleep(0), lambda: hybrid.joinall([]), lambda: hybrid.connect("/no")):
        try:
            call()
        except RuntimeError as error:
            seen.append("refused" if "would block" in str(error) else str(error))
    waiting = hybrid.spawn(lambda: hybrid.await_(asyncio.sleep(0.001, "both")))
    while not waiting.ready():
        await asyncio.sleep(0.001)
    seen.append(waiting.value)
    left, right = socket.socketpair()
    left.setblocking(False)
    loop = asyncio.get_running_loop()
    right.send(b"x")
    seen.append((await loop.sock_recv(left, 10)).decode())
    process = await asyncio.create_subprocess_exec("true")
    seen.append(await process.wait())
    left.close()
    right.close()
    return seen

print(hybrid.run(main, loop="gevent"))
print(hybrid.run(amain, loop="gevent"))
"""


@pytest.mark.skipif("gevent" not in LOOPS, reason="another loop is asked for")
def test_on_gevent_the_functions_are_gevents(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_GEVENT)
    ended = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""
    first, second = map(ast.literal_eval, ended.stdout.splitlines())
    assert (first[0], first[-1], set(first[1:-1])) == ("raised", "no such path", {"cancelled"})
    assert second[:2] == ["green", "raised"]
    assert sorted(second[2:4]) == ["killed", "timed out"]
    assert second[4:] == ["refused", "refused", "refused", "both", "x", 0]


_PLUGIN = """
import sys
from importlib import metadata

class Finder(metadata.DistributionFinder):
    def __init__(self):
        self.looks = 0

    def find_spec(self, *arguments):
        return None

    def find_distributions(self, context):
        self.looks += 1
        return []

called = []

def after_module(event):
    called.append(event.module_name)

def after_all(event):
    called.append("all")

if __name__ == "__main__":
    from hybrid.workers.loops.gevent_loop import GeventDriver

    sys.modules["plugin"] = sys.modules["__main__"]
    finder, usual = Finder(), metadata.entry_points
    sys.meta_path.append(finder)
    GeventDriver("gevent").prepare()
    print([called.count("socket"), called.count("all"), finder.looks, metadata.entry_points is usual])
"""
_ENTRY_POINTS = """
[gevent.plugins.monkey.did_patch_module]
test = plugin:after_module

[gevent.plugins.monkey.did_patch_all]
test = plugin:after_all
"""


@pytest.mark.skipif("gevent" not in LOOPS, reason="another loop is asked for")
def test_plugins_of_gevent_are_called_and_packages_are_read_once(tmp_path: Path) -> None:
    """Reading them for each of gevent's 25 questions took most of the time of its start."""
    script = tmp_path / "script.py"
    script.write_text(_PLUGIN)
    (tmp_path / "plugin-1.dist-info").mkdir()
    (tmp_path / "plugin-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (tmp_path / "plugin-1.dist-info" / "entry_points.txt").write_text(_ENTRY_POINTS)
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert ast.literal_eval(ended.stdout) == [1, 1, 1, True]
