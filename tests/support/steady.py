"""A steady load over kept-alive connections: the next request goes out when the answer is whole; each is counted."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.process import DEADLINE

REQUEST = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)


class _Connection:
    """One of them."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, DEADLINE)
        self.heard = b""
        self.is_waiting = False  # for an answer
        self.is_last = False  # the server has announced that it closes

    def hear(self) -> bool:
        """Take in what came; tell whether an answer is whole."""
        self.heard += (part := self.sock.recv(65_536))
        if not part:
            raise EOFError
        head, end, body = self.heard.partition(b"\r\n\r\n")
        if not end:
            return False
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = _LENGTH.search(head + b"\r\n")
        assert length is not None, head
        missing = int(length[1]) - len(body)
        assert missing >= 0, self.heard
        self.is_last = _CLOSE.search(head + b"\r\n") is not None
        return missing == 0


class Steady:
    """The connections of one client, and what became of their requests. `run` is for a thread of its own."""

    def __init__(self, address: tuple[str, int], connections: int, request: bytes = REQUEST, most: int = 0) -> None:
        """`most`: requests in all; 0: until `end` or the server ends each connection."""
        self.sent = 0
        self.answered = 0
        self.announced = 0
        """Connections whose last answer said that it is the last."""
        self.failures: list[str] = []
        """Requests that were not answered, and closes that were not announced."""
        self._request = request
        self._most = most
        self._over = False
        self._news = threading.Condition()
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        for _ in range(connections):
            connection = _Connection(address)
            self._open[connection.sock.fileno()] = connection
            self._poll.register(connection.sock, select.EPOLLIN)

    def close(self) -> None:
        """Close what is open."""
        for connection in self._open.values():
            connection.sock.close()
        self._open.clear()
        self._poll.close()

    def end(self) -> None:
        """Send no more requests."""
        self._over = True

    def run(self) -> None:
        """Ask until it is over; note all that goes wrong."""
        until = time.monotonic() + 3 * DEADLINE
        for connection in list(self._open.values()):
            self._ask(connection)
        while self._open and time.monotonic() < until:
            for fd, _ in self._poll.poll(1):
                self._turn(self._open[fd])
        if self._open:
            self.failures.append(f"{len(self._open)} connections still wait")

    def _turn(self, connection: _Connection) -> None:
        try:
            if not connection.hear():
                return
        except (OSError, EOFError, AssertionError) as error:
            if connection.is_waiting or not connection.is_last:
                self.failures.append(f"{error!r} {'within a request' if connection.is_waiting else 'without a word'}")
            self._drop(connection)
            return
        self._answered(connection)

    def _answered(self, connection: _Connection) -> None:
        connection.is_waiting = False
        connection.heard = b""
        with self._news:
            self.answered += 1
            self._news.notify_all()
        if connection.is_last:
            self.announced += 1  # its end of stream follows
        else:
            self._ask(connection)

    def _ask(self, connection: _Connection) -> None:
        if self._over or (self._most and self.sent >= self._most):
            self._drop(connection)
            return
        self.sent += 1
        connection.is_waiting = True
        try:
            connection.sock.sendall(self._request)
        except OSError as error:
            self.failures.append(f"{error!r} while sending")
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        del self._open[connection.sock.fileno()]
        connection.sock.close()

    def wait_answers(self, count: int) -> None:
        """Wait until `count` requests have been answered in all."""
        with self._news:
            assert self._news.wait_for(lambda: self.answered >= count, DEADLINE), f"{self.answered} of {count} answers"


@contextmanager
def steady(address: tuple[str, int], connections: int, request: bytes = REQUEST) -> Iterator[Steady]:
    """Keep `connections` busy while the block runs; at its end the last answers are in."""
    load = Steady(address, connections, request)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.end()
        thread.join()
        load.close()
