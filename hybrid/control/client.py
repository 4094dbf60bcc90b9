"""One connection to the control socket of a supervisor.

Every method that waits has a deadline. A failed system call becomes one of the errors in `hybrid.control.errors` here,
and nowhere else.
"""

from __future__ import annotations

import collections
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from hybrid.control.errors import GoneError, LateError, RefusedError
from hybrid.control.messages import (
    Event,
    Failure,
    Greeting,
    Lines,
    Message,
    Progress,
    Result,
    greeting_of,
    message_of,
    request_line,
)

_READ: Final = 1 << 18  # bytes at a time
_MAX_EVENTS: Final = 1000  # that are kept while an answer is awaited
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: unix(7)


class Client:
    """A connection whose greeting has been read. Not for several threads."""

    def __init__(self, sock: socket.socket, address: str, greeting: Greeting, lines: Lines) -> None:
        """Use `connect`."""
        self.address = address
        """`@NAME` or a path."""
        self.greeting = greeting
        self._sock = sock
        self._lines = lines
        self._received: collections.deque[Message] = collections.deque()
        self._events: collections.deque[Event] = collections.deque(maxlen=_MAX_EVENTS)
        self._requests = 0

    @classmethod
    def connect(cls, address: str, timeout: float) -> Client:
        """Connect to `@NAME` (abstract) or a path, and read the greeting; up to `timeout` seconds.

        Raises `GoneError`, `RefusedError`, `LateError` and `OtherProtocolError`.
        """
        deadline = time.monotonic() + timeout
        sock = _connected(address, timeout)
        try:
            sock.setblocking(False)
            lines = Lines()
            arrived: list[bytes] = []
            while not arrived:
                arrived = list(lines.feed(_read(sock, address, deadline)))
            client = cls(sock, address, greeting_of(arrived[0]), lines)
            client._take(arrived[1:])
            return client
        except BaseException:
            sock.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    def account(self) -> int:
        """Return the uid of the process that listens at this address: the kernel's word, not the greeting's."""
        return account_of(self._sock)

    def start(self, name: str, timeout: float = 5.0, **parameters: object) -> int:
        """Send a request; return its id. Raises `GoneError` and `LateError`."""
        self._requests += 1
        rest = request_line(self._requests, name, parameters)
        deadline = time.monotonic() + timeout
        while rest:
            try:
                rest = rest[self._sock.send(rest, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                _wait(self._sock, select.POLLOUT, self.address, deadline)
            except OSError as error:
                raise GoneError(f"the supervisor at {self.address} is gone") from error
        return self._requests

    def wait(
        self, number: int, timeout: float, on_progress: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Wait up to `timeout` seconds for the result of the request with this id; drops answers to others.

        Raises `RequestError` or `RefusedError` if the supervisor answers so, `LateError` and `GoneError`.
        """
        for message in self._answers(number, timeout):
            match message:
                case Result(value=value):
                    return value
                case Progress(value=value) if on_progress is not None:
                    on_progress(value)
        raise AssertionError("unreachable: the answers end with an error")

    def wait_accepted(self, number: int, timeout: float) -> None:
        """Wait up to `timeout` seconds until a request is carried out or has made progress. Raises as `wait`."""
        next(self._answers(number, timeout))

    def request(self, name: str, timeout: float, **parameters: object) -> dict[str, Any]:
        """Send a request and wait for its result, both within `timeout` seconds. Raises as `wait`."""
        deadline = time.monotonic() + timeout
        number = self.start(name, timeout, **parameters)
        return self.wait(number, deadline - time.monotonic())

    def events(self, output: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield events as they come, after `subscribe`; may block forever. Raises `GoneError` at the end.

        `output`: the descriptor that they are written to. They end once nobody can read it any more.
        """
        while True:
            while self._events:
                yield self._events.popleft().value
            if output is not None and not self._received and not _wait_beside(self._sock, output):
                return
            message = self._next(None)
            if isinstance(message, Event):
                yield message.value

    def receive_nowait(self) -> list[Message]:
        """Return what has arrived. Raises `GoneError` and `OtherProtocolError`."""
        if not self._received:
            try:
                self._take(self._lines.feed(_receive(self._sock, self.address)))
            except BlockingIOError:
                return []
        arrived = list(self._received)
        self._received.clear()
        return arrived

    def close(self) -> None:
        """Close the connection; may be called twice. Requests in progress go on."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self, number: int, timeout: float) -> Iterator[Result | Progress]:
        """Yield the messages about one request. Raises the error that ends it."""
        deadline = time.monotonic() + timeout
        while True:
            match self._next(deadline):
                case Result(id=found) | Progress(id=found) as message if found == number:
                    yield message
                case Failure(id=found) as failure if found in (number, None):
                    raise failure.error()
                case Event() as event:
                    self._events.append(event)

    def _next(self, deadline: float | None) -> Message:
        while not self._received:
            self._take(self._lines.feed(_read(self._sock, self.address, deadline)))
        return self._received.popleft()

    def _take(self, lines: Iterable[bytes]) -> None:
        self._received.extend(message for line in lines if (message := message_of(line)) is not None)


def socket_address(address: str) -> str | bytes:
    """Return what connect(2) takes for `@NAME` or a path."""
    return b"\0" + os.fsencode(address[1:]) if address.startswith("@") else address


def account_of(sock: socket.socket) -> int:
    """Return the uid of the process that listens at the other end of a connected UNIX socket."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def _connected(address: str, timeout: float) -> socket.socket:
    """Connect within `timeout` seconds. A full queue of the listener makes connect(2) wait, as long as SO_SNDTIMEO."""
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise GoneError(f"no socket to ask with: {error.strerror}") from error
    try:
        seconds, rest = divmod(max(timeout, 0.001), 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(rest * 1e6)))
        sock.connect(socket_address(address))
    except OSError as error:
        sock.close()
        raise _connect_error(address, error) from error
    return sock


def _connect_error(address: str, error: OSError) -> GoneError | RefusedError | LateError:
    match error:
        case FileNotFoundError():
            return GoneError(f"there is no control socket {address}: see hybrid ps")
        case ConnectionRefusedError():
            return GoneError(f"no supervisor listens at {address}: see hybrid ps")
        case PermissionError():
            return RefusedError(f"this account may not use {address}: be root, or the account of the supervisor")
        case BlockingIOError():
            return LateError(f"the supervisor at {address} does not accept connections")
    return GoneError(f"{address}: {error.strerror or error}")  # too long a path, or no socket


def _read(sock: socket.socket, address: str, deadline: float | None) -> bytes:
    """Return the next bytes. Raises `LateError` at the deadline (None: never), and `GoneError` at EOF."""
    while True:
        _wait(sock, select.POLLIN, address, deadline)
        try:
            return _receive(sock, address)
        except BlockingIOError:
            continue


def _receive(sock: socket.socket, address: str) -> bytes:
    """Return the next bytes without waiting. Raises `BlockingIOError` if there are none, and `GoneError` at EOF."""
    try:
        data = sock.recv(_READ)
    except BlockingIOError:
        raise
    except OSError:
        data = b""
    if not data:
        raise GoneError(f"the supervisor at {address} has closed the connection")
    return data


def _wait_beside(sock: socket.socket, output: int) -> bool:
    """Wait until `sock` is readable; return False if the reader of the pipe `output` is gone before."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(output, 0)  # its error alone
    return any(fd == sock.fileno() for fd, _ in poll.poll())


def _wait(sock: socket.socket, events: int, address: str, deadline: float | None) -> None:
    """Wait until `sock` is ready. The poll retries after a signal by itself (PEP 475). Raises `LateError`."""
    poll = select.poll()
    poll.register(sock, events)
    if deadline is None:
        poll.poll()
    elif not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise LateError(f"the supervisor at {address} has not answered in time")
