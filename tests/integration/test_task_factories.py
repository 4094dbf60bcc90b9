"""Task factories of the application: each handler's and each request's task comes from them, on every loop."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator

import pytest
from support.clients import connected, read_all
from support.hub import run_on
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

FACTORIES = ["two_arguments", "wrapping", *(["eager"] if sys.version_info >= (3, 12) else [])]


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def streams(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    where = tmp_path_factory.mktemp("streams")
    with serving("task_factories:handle", "--workers", "1", "--loop", loop, cwd=where) as process:
        yield process


@pytest.fixture(scope="module")
def web(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    where = tmp_path_factory.mktemp("web")
    with serving("task_factories:application", "--workers", "1", "--loop", loop, cwd=where) as process:
        yield process


@pytest.fixture
def handler(streams: HybridProcess) -> Iterator[Callable[[str], str]]:
    """Tell a handler which factory to set; it replies with the maker of its own task."""

    def tell(factory: str) -> str:
        with connected(streams.address) as sock:
            sock.sendall(f"{factory}\nhello\n".encode())
            return read_all(sock).decode()

    errors = [line for line in streams.lines if "Error" in line]
    yield tell
    tell("none")
    assert [line for line in streams.lines if "Error" in line] == errors


@pytest.fixture
def request_to(web: HybridProcess) -> Iterator[Callable[[str], str]]:
    """Make a request that sets a factory; the response names the maker of the request's task."""

    def tell(path: str) -> str:
        wire = f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with connected(web.address) as sock:
            sock.sendall(wire.encode())
            return read_all(sock).decode().rpartition("\r\n")[2]

    yield tell
    tell("none")
    assert "Error" not in web.stderr


def needs(loop: str, factory: str) -> None:
    """Skip cases that uvloop refuses: it passes arguments to factories that asyncio passes only if they are set."""
    if loop == "uvloop" and factory == "two_arguments":
        pytest.skip("uvloop gives every task factory the argument `context`")
    if loop == "uvloop" and factory.startswith("eager") and not _uvloop_takes_eager_tasks():
        pytest.skip("this uvloop gives factories `eager_start`, which the eager factory of this Python does not take")


@functools.cache
def _uvloop_takes_eager_tasks() -> bool:
    async def main(_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        nothing = asyncio.sleep(0)
        try:
            await loop.create_task(nothing)
        finally:
            nothing.close()
            loop.set_task_factory(None)

    try:
        run_on("uvloop", main)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("factory", FACTORIES)
def test_later_handlers_run_in_tasks_of_the_factory(handler: Callable[[str], str], loop: str, factory: str) -> None:
    needs(loop, factory)
    assert handler(factory) == "none b'hello\\n'"
    assert [handler(factory) for _ in range(3)] == [f"{factory} b'hello\\n'"] * 3


@pytest.mark.parametrize("waits", ["", "/waits"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_later_requests_run_in_tasks_of_the_factory(
    request_to: Callable[[str], str], loop: str, factory: str, waits: str
) -> None:
    needs(loop, factory)
    assert request_to(factory + waits) == "none"
    assert [request_to(factory + waits) for _ in range(3)] == [factory] * 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_the_eager_factory_of_asyncio_serves_handlers_and_requests(
    handler: Callable[[str], str], request_to: Callable[[str], str], loop: str
) -> None:
    needs(loop, "eager_task_factory")
    assert [handler("eager_task_factory") for _ in range(3)] == ["none b'hello\\n'"] * 3
    assert [request_to("eager_task_factory/waits") for _ in range(3)] == ["none"] * 3


def test_a_factory_that_fails_costs_one_connection(streams: HybridProcess) -> None:
    seen = len(streams.lines)
    with connected(streams.address) as sock:
        sock.sendall(b"failing_once\nhello\n")
        assert read_all(sock) == b"none b'hello\\n'"
    with connected(streams.address) as sock:
        assert read_all(sock) == b""
    streams.wait_for_log("handler failed: LookupError: no task today", since=seen)
    with connected(streams.address) as sock:
        sock.sendall(b"none\nhello\n")
        assert read_all(sock) == b"none b'hello\\n'"
