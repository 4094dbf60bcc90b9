"""The socket pair between an embedding process and its supervisor, which runs in a child process.

A pair of SOCK_SEQPACKET sockets; `workers.contract.wire` says how messages travel.

    client to supervisor    StatusRequest(id, service)   ScaleRequest(id, workers, service)   StopRequest(id, graceful)
    supervisor to client    Answer(id, result)   Refusal(id, reason)   Started(addresses)   Ended(code, reason)

Requests may overlap: an answer carries the id of its request. A request that cannot be read is refused with its id, or
with null if the id cannot be read either. EOF means that the other process is gone; then a supervisor stops gracefully.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from hybrid.supervisor.core.status import Status, pack, unpack
from hybrid.workers.contract import wire
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.records import record

_MAX_DATAGRAM = 256 * 1024  # bytes; the kernel rejects larger ones with its default buffers


class ControlClosed(ConnectionError):  # noqa: N818 - an event, as BrokenPipe is
    """The other process is gone, or closed its end."""


class ControlError(ValueError):
    """A request that cannot be read, or that the supervisor refuses; the text says why."""

    def __init__(self, reason: str, request_id: int | None = None) -> None:
        super().__init__(reason)
        self.request_id = request_id
        """The id of the request; None if it cannot be read."""


class StartError(Exception):
    """A supervisor failed to start."""

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """Its exit code."""
        self.reason = reason
        """One or a few lines for the user."""

    def __str__(self) -> str:
        return self.reason


@record(frozen=True, slots=True)
class StatusRequest:
    """Return the status of a service."""

    id: int
    service: str = ""
    """Empty: the first one."""


@record(frozen=True, slots=True)
class ScaleRequest:
    """Run `workers` workers of a service; answered once they serve."""

    id: int
    workers: int
    service: str = ""
    """Empty: the first one."""


@record(frozen=True, slots=True)
class StopRequest:
    """Stop: draining, or at once."""

    id: int
    graceful: bool


@record(frozen=True, slots=True)
class Answer:
    """The request succeeded."""

    id: int
    result: object
    """JSON values."""


@record(frozen=True, slots=True)
class Refusal:
    """The request was refused."""

    id: int | None
    """None if the id of the request cannot be read."""
    reason: str


@record(frozen=True, slots=True)
class Started:
    """Every slot is served for the first time."""

    addresses: tuple[str, ...]


@record(frozen=True, slots=True)
class Ended:
    """The supervisor ends; its last message."""

    code: int
    reason: str


Request = StatusRequest | ScaleRequest | StopRequest
Reply = Answer | Refusal | Started | Ended
_REQUESTS: wire.Codec[Request] = wire.Codec((StatusRequest, ScaleRequest, StopRequest))
_REPLIES: wire.Codec[Reply] = wire.Codec((Answer, Refusal, Started, Ended))


def pair() -> tuple[Control, ControlClient]:
    """Return the two ends of a new socket pair. Raises `OSError` (EMFILE, ENFILE)."""
    supervisor, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Control(supervisor), ControlClient(client)


class Control:
    """The supervisor's end. No method blocks. As a socket, it can be pickled while a process is being spawned."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def __reduce__(self) -> tuple[type[Control], tuple[socket.socket]]:
        return Control, (self._sock,)

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 once closed."""
        return self._sock.fileno()

    def receive_nowait(self) -> Request | None:
        """Return the next request, or None if there is none.

        Raises `ControlClosed` at EOF, and `ControlError` for a datagram that is no request (the next one may be one).
        """
        try:
            datagram = self._sock.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ControlClosed(str(error)) from error
        if not datagram:
            raise ControlClosed("the embedding process is gone")
        try:
            return _REQUESTS.decode(datagram)
        except wire.UndecodableError as error:
            found = error.fields.get("id")
            raise ControlError(f"not a request: {error}", found if type(found) is int else None) from error

    def answer(self, request_id: int, result: object = None) -> None:
        """Answer a request with its result, JSON values."""
        self._send(Answer(request_id, result))

    def answer_status(self, request_id: int, status: Status) -> None:
        """Answer a `StatusRequest`."""
        self.answer(request_id, pack(status))

    def refuse(self, request_id: int | None, reason: str) -> None:
        """Refuse a request with a reason; `request_id` is None if the id cannot be read."""
        self._send(Refusal(request_id, reason))

    def started(self, addresses: tuple[str, ...]) -> None:
        """Report that every slot is served for the first time."""
        self._send(Started(addresses))

    def ended(self, code: int, reason: str) -> None:
        """Report that the supervisor ends; its last message."""
        self._send(Ended(code, reason))

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._sock.close()

    def _send(self, reply: Reply) -> None:
        # The client is gone, or has too many unread answers. A supervisor does not wait for it; the client has its own
        # deadline.
        with contextlib.suppress(OSError):
            wire.send(self._sock, _REPLIES.encode(reply))


class ControlClient:
    """The embedding process's end. Its methods block up to their timeout; any number of threads may call them.

    One of the waiting threads reads the socket for all of them.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._news = threading.Condition()  # guards the fields below; never held while waiting
        self._is_read = False  # a thread waits for the socket
        self._is_gone = False  # EOF
        self._requests = 0
        self._answers: dict[int, Answer | Refusal | None] = {}  # id of a waiting request -> its answer
        self._addresses: tuple[str, ...] | None = None  # once started
        self._end: StartError | None = None  # once ended

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._sock.fileno()

    def wait_started(self, timeout: float | None = None) -> tuple[str, ...]:
        """Wait until every slot is served; return the real addresses. Later calls return at once.

        Raises `StartError` if the supervisor ended, and `TimeoutError` after `timeout` seconds (None: never).
        """
        try:
            self._wait(lambda: self._addresses is not None or self._end is not None, _deadline(timeout))
        except ControlClosed:
            raise StartError(Exit.ERROR, "the supervisor ended without a message") from None
        if self._addresses is None:
            assert self._end is not None
            raise self._end
        return self._addresses

    def wait_ended(self, timeout: float) -> Exit | None:
        """Wait up to `timeout` seconds for the exit code of the supervisor; None if it has not reported one."""
        with contextlib.suppress(ControlClosed, TimeoutError):
            self._wait(lambda: self._end is not None, _deadline(timeout))
        return None if self._end is None else self._end.code

    def status(self, timeout: float | None = 5.0, service: str = "") -> Status:
        """Return a snapshot of a service; empty: of the first one.

        Raises `ControlClosed` if the supervisor is gone, and `TimeoutError` after `timeout` seconds.
        """
        return unpack(self._ask(timeout, StatusRequest, service))

    def scale(self, workers: int, timeout: float | None = 60.0, service: str = "") -> None:
        """Run `workers` workers of a service (empty: of the first one).

        Returns when all of them serve and the surplus ones are gone.

        Raises `ControlError` if the supervisor refuses, `ControlClosed` if it is gone, and `TimeoutError` after
        `timeout` seconds; the supervisor keeps trying then.
        """
        self._ask(timeout, ScaleRequest, workers, service)

    def stop(self, graceful: bool = True, timeout: float | None = 5.0) -> None:
        """Stop, draining or at once; return when the supervisor has begun, or is gone already.

        Raises `TimeoutError` after `timeout` seconds.
        """
        with contextlib.suppress(ControlClosed):
            self._ask(timeout, StopRequest, graceful)

    def close(self) -> None:
        """Close this end, which stops the supervisor gracefully; may be called twice. Wakes all waiting threads."""
        with self._news:
            self._is_gone = True
            self._news.notify_all()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for the socket
        self._sock.close()

    def abandon(self) -> None:
        """Close only the descriptor, in a fork of the embedding process. Never blocks."""
        self._news = threading.Condition()  # a thread of the parent process may hold the old one
        self._is_gone = True
        self._sock.close()

    def _ask(self, timeout: float | None, kind: Callable[..., Request], *fields: object) -> Any:
        deadline = _deadline(timeout)
        with self._news:
            self._requests += 1
            number = self._requests
            self._answers[number] = None
        try:
            self._send(kind(number, *fields), deadline)
            self._wait(lambda: self._answers[number] is not None, deadline)
            answer = self._answers[number]
        finally:
            with self._news:
                del self._answers[number]
        assert answer is not None
        if isinstance(answer, Refusal):
            raise ControlError(answer.reason, number)
        return answer.result

    def _send(self, request: Request, deadline: float | None) -> None:
        datagram = _REQUESTS.encode(request)
        while True:
            try:
                wire.send(self._sock, datagram)
                return
            except BlockingIOError:
                self._poll(select.POLLOUT, deadline)
            except OSError as error:
                raise ControlClosed("the supervisor is gone") from error

    def _wait(self, is_there: Callable[[], bool], deadline: float | None) -> None:
        """Wait until `is_there()`, which is called with the lock held. Raises `ControlClosed` and `TimeoutError`."""
        with self._news:
            while not is_there():
                if self._is_gone:
                    raise ControlClosed("the supervisor is gone")
                if self._is_read:
                    self._news.wait(_remaining(deadline))
                else:
                    self._read(deadline)

    def _read(self, deadline: float | None) -> None:
        """Receive the next datagram for all waiting threads. Called with the lock held; releases it while waiting."""
        self._is_read = True
        self._news.release()
        datagram: bytes | None = None
        try:
            datagram = self._receive(deadline)
        finally:
            self._news.acquire()
            self._is_read = False
            if datagram is not None:
                self._take(datagram)
            self._news.notify_all()

    def _receive(self, deadline: float | None) -> bytes:
        """Return the next datagram, empty at EOF. Raises `TimeoutError`."""
        while True:
            try:
                return self._sock.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                self._poll(select.POLLIN, deadline)
            except OSError:
                return b""

    def _poll(self, events: int, deadline: float | None) -> None:
        remaining = _remaining(deadline)
        poll = select.poll()
        with contextlib.suppress(ValueError):  # closed meanwhile: the next system call reports it
            poll.register(self._sock, events)
            poll.poll(None if remaining is None else remaining * 1000)

    def _take(self, datagram: bytes) -> None:
        if not datagram:
            self._is_gone = True
            return
        match _REPLIES.decode(datagram):
            case Started(addresses):
                self._addresses = addresses
            case Ended(code, reason):
                self._end = StartError(Exit(code), reason)
            case Refusal(None, _) as refusal:  # refers to one of them, unknown which
                for waiting in self._answers:
                    self._answers[waiting] = refusal
            case Answer(int(number), _) | Refusal(int(number), _) as reply if number in self._answers:
                self._answers[number] = reply  # else: answers a request that timed out


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the supervisor has not answered in time")
    return remaining
