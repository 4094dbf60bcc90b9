"""Test bodies for greenlets: `def test(green)` runs in a greenlet on every loop that has ours for a runtime."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hybrid.workers.hub.greenlets import Greenlet
from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.sockets import Socket
from support.hub import cooperative_pair, in_greenlet, run_on, tcp_pair

OURS = ("select", "poll", "epoll", "asyncio", "uvloop")


@dataclasses.dataclass
class Green:
    """The runtime that a test runs on, with verbs."""

    runtime: HubRuntime

    def spawn(self, function: Callable[..., Any], *args: Any) -> Greenlet:
        return self.runtime.spawn(function, *args)

    def turns(self, count: int = 5) -> None:
        """Let the others run `count` times."""
        for _ in range(count):
            self.runtime.sleep(0)

    def sleep(self, seconds: float) -> None:
        self.runtime.sleep(seconds)

    @contextmanager
    def pair(self) -> Iterator[tuple[Socket, Socket]]:
        """Give two connected cooperative UNIX sockets."""
        with cooperative_pair(self.runtime) as pair:
            yield pair

    @contextmanager
    def tcp(self) -> Iterator[tuple[Socket, socket.socket]]:
        """Give a cooperative TCP socket and a plain non-blocking one as its peer."""
        with tcp_pair() as (left, right):
            ours = self.socket(left.family, fileno=left.detach())
            right.setblocking(False)
            with ours:
                yield ours, right

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, fileno: int | None = None) -> Socket:
        """Return a new cooperative socket."""
        return Socket(family, kind, 0, fileno=fileno, runtime=self.runtime)


def on_greens(body: Callable[[Green], object]) -> Any:
    """Make a test of `def test(green)` that runs in a greenlet, once per loop."""

    @pytest.mark.parametrize("loop", OURS)
    def test(loop: str) -> None:
        in_greenlet(loop, lambda runtime: body(Green(runtime)))

    return _named(test, body)


def in_home(body: Callable[[Green], object]) -> Any:
    """Make a test of `def test(green)` that runs in the greenlet of the loop itself, as a coroutine does."""

    @pytest.mark.parametrize("loop", OURS)
    def test(loop: str) -> None:
        async def main(runtime: HubRuntime) -> None:
            body(Green(runtime))

        run_on(loop, main)

    return _named(test, body)


def _named(test: Callable[[str], None], body: Callable[[Green], object]) -> Any:
    test.__name__ = test.__qualname__ = body.__name__
    test.__doc__ = body.__doc__
    test.__module__ = body.__module__
    return test
