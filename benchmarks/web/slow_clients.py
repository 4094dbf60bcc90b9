"""The slow clients of the suite `slowloris`: heads that come a byte at a time, and an answer that nobody reads."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self

from benchmarks import peers
from benchmarks.load import LoadFailed

_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "  # then letters, without an end
_PAUSE_SECONDS = 0.5  # between two bytes on a connection
_SECONDS = 10.0


class SlowClients:
    """`crawlers` connections whose heads do not end, and one that asks for `/large` and reads nothing.

    A context manager; a thread sends the bytes while the block runs. Raises `LoadFailed` at its end if the server has
    ended some of them meanwhile: then fewer than said were there.
    """

    def __init__(self, port: int, crawlers: int) -> None:
        self._port = port
        self._count = crawlers
        self._crawlers: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._crawl)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._connect(stack).sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            self._crawlers = [self._connect(stack) for _ in range(self._count)]
            self._stack = stack.pop_all()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with self._stack:
            ended = self._ended()
        if ended and error is None:
            raise LoadFailed(f"{ended} of {self._count} slow clients were not let stay for the measurement")

    def _connect(self, stack: contextlib.ExitStack) -> socket.socket:
        try:
            return stack.enter_context(socket.create_connection((peers.HOST, self._port), _SECONDS))
        except OSError as error:
            raise LoadFailed(f"a slow client could not connect: {error}") from error

    def _crawl(self) -> None:
        sent = 0
        while not self._over.wait(_PAUSE_SECONDS if sent else 0):
            byte = _HEAD[sent : sent + 1] or b"a"
            sent += 1
            for sock in self._crawlers:
                with contextlib.suppress(OSError):  # ended by the server; counted in the end
                    sock.send(byte)

    def _ended(self) -> int:
        """How many the server has answered or closed."""
        poll = select.poll()
        for sock in self._crawlers:
            poll.register(sock, select.POLLIN)
        return len(poll.poll(0))
