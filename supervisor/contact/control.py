"""The line between an embedding process and the supervisor that runs in a child of it.

A pair of SOCK_SEQPACKET sockets; every datagram is one JSON object:

    client to supervisor    {"id": 1, "request": "status"}   {"id": 2, "request": "scale", "workers": 3}
                            {"id": 3, "request": "stop", "graceful": true}
    supervisor to client    {"id": 1, "result": ...}   {"id": 2, "error": "why not"}
                            {"notice": "started", "addresses": [...]}   {"notice": "ended", "code": 3, "reason": "..."}

EOF means that the other process is gone: a supervisor stops gracefully then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from typing import Any

from hybrid.supervisor.core.status import Status, pack, unpack
from hybrid.workers.contract.exits import Exit

_MAX_DATAGRAM = 256 * 1024  # bytes; the kernel takes no larger one with its default buffers


class ControlClosed(ConnectionError):  # noqa: N818 - an event, as BrokenPipe is
    """The other process is gone, or has closed its end."""


class ControlError(ValueError):
    """A request that cannot be understood, or that the supervisor refuses; the text says why."""


class StartError(Exception):
    """The start of a supervisor has failed."""

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """The exit code that goes with it."""
        self.reason = reason
        """One or a few lines for a person."""

    def __str__(self) -> str:
        return self.reason


@dataclasses.dataclass(frozen=True, slots=True)
class StatusRequest:
    """Tell how you are."""

    id: int


@dataclasses.dataclass(frozen=True, slots=True)
class ScaleRequest:
    """Run `workers` workers, and answer when it is so."""

    id: int
    workers: int


@dataclasses.dataclass(frozen=True, slots=True)
class StopRequest:
    """Stop: draining, or at once."""

    id: int
    graceful: bool


Request = StatusRequest | ScaleRequest | StopRequest


def pair() -> tuple[Control, ControlClient]:
    """Return the two ends of a new line. Raises `OSError` (EMFILE, ENFILE)."""
    supervisor, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Control(supervisor), ControlClient(client)


class Control:
    """The supervisor's end. No method blocks. Can be pickled while a process is being spawned, as its socket can."""

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

        Raises `ControlClosed` at EOF, and `ControlError` for a datagram that is no request (the next one may be).
        """
        try:
            datagram = self._sock.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ControlClosed(str(error)) from error
        if not datagram:
            raise ControlClosed("the embedding process is gone")
        return _parse_request(datagram)

    def answer(self, request_id: int, result: object = None) -> None:
        """Answer a request with its result, JSON values."""
        self._send({"id": request_id, "result": result})

    def answer_status(self, request_id: int, status: Status) -> None:
        """Answer a `StatusRequest`."""
        self.answer(request_id, pack(status))

    def refuse(self, request_id: int, reason: str) -> None:
        """Answer a request with the reason why it is not fulfilled."""
        self._send({"id": request_id, "error": reason})

    def started(self, addresses: tuple[str, ...]) -> None:
        """Tell that every slot is served for the first time."""
        self._send({"notice": "started", "addresses": addresses})

    def ended(self, code: int, reason: str) -> None:
        """Tell that the supervisor ends; the last thing said."""
        self._send({"notice": "ended", "code": code, "reason": reason})

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._sock.close()

    def _send(self, fields: dict[str, object]) -> None:
        # Gone, or so many answers unread that there is no room: a supervisor does not wait for it. The client's own
        # deadline tells it.
        with contextlib.suppress(OSError):
            self._sock.send(json.dumps(fields).encode("ascii"), socket.MSG_NOSIGNAL)


def _parse_request(datagram: bytes) -> Request:
    try:
        fields = json.loads(datagram)
        match fields:
            case {"id": int(number), "request": "status"}:
                return StatusRequest(number)
            case {"id": int(number), "request": "scale", "workers": int(workers)}:
                return ScaleRequest(number, workers)
            case {"id": int(number), "request": "stop", "graceful": bool(graceful)}:
                return StopRequest(number, graceful)
    except (ValueError, RecursionError):
        pass
    raise ControlError(f"not a request: {datagram[:80]!r}")


class ControlClient:
    """The embedding process's end. Its methods block, at most for the time given; from any thread, one at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._requests = 0
        self._addresses: tuple[str, ...] | None = None  # once started
        self._end: StartError | None = None  # once ended

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._sock.fileno()

    def wait_started(self, timeout: float | None = None) -> tuple[str, ...]:
        """Wait until every slot is served and return the real addresses; returns at once when called again.

        Raises `StartError` if the supervisor has ended, and `TimeoutError` after `timeout` seconds (None: never).
        """
        deadline = _deadline(timeout)
        with self._lock:
            while self._addresses is None:
                if self._end is not None:
                    raise self._end
                try:
                    self._receive(deadline)
                except ControlClosed:
                    raise self._end or StartError(Exit.ERROR, "the supervisor ended without a word") from None
            return self._addresses

    def status(self, timeout: float | None = 5.0) -> Status:
        """Return a snapshot.

        Raises `ControlClosed` if the supervisor is gone, and `TimeoutError` after `timeout` seconds.
        """
        return unpack(self._ask(timeout, request="status"))

    def scale(self, workers: int, timeout: float | None = 60.0) -> None:
        """Have `workers` workers; return when all of them serve and those that are too many are gone.

        Raises `ControlError` if the supervisor refuses, `ControlClosed` if it is gone, and `TimeoutError` after
        `timeout` seconds; then it still goes on trying.
        """
        self._ask(timeout, request="scale", workers=workers)

    def stop(self, graceful: bool = True, timeout: float | None = 5.0) -> None:
        """Ask to stop, draining or at once; returns when the supervisor has begun, or is gone already.

        Raises `TimeoutError` after `timeout` seconds.
        """
        with contextlib.suppress(ControlClosed):
            self._ask(timeout, request="stop", graceful=graceful)

    def close(self) -> None:
        """Close this end, which stops the supervisor gracefully; may be called twice."""
        self._sock.close()

    def _ask(self, timeout: float | None, **request: object) -> Any:
        deadline = _deadline(timeout)
        with self._lock:
            self._requests += 1
            self._send({"id": self._requests, **request}, deadline)
            while True:
                match self._receive(deadline):
                    case {"id": number, "result": result} if number == self._requests:
                        return result
                    case {"id": number, "error": str(reason)} if number == self._requests:
                        raise ControlError(reason)
                    case _:  # a notice, or the answer to a question that was given up
                        continue

    def _send(self, fields: dict[str, object], deadline: float | None) -> None:
        try:
            self._sock.settimeout(_remaining(deadline))
            self._sock.send(json.dumps(fields).encode("ascii"), socket.MSG_NOSIGNAL)
        except TimeoutError:
            raise
        except OSError as error:
            raise ControlClosed("the supervisor is gone") from error

    def _receive(self, deadline: float | None) -> dict[str, Any]:
        try:
            self._sock.settimeout(_remaining(deadline))
            datagram = self._sock.recv(_MAX_DATAGRAM)
        except TimeoutError:
            raise
        except OSError as error:
            raise ControlClosed("the supervisor is gone") from error
        if not datagram:
            raise ControlClosed("the supervisor is gone")
        fields: dict[str, Any] = json.loads(datagram)
        match fields:
            case {"notice": "started", "addresses": addresses}:
                self._addresses = tuple(addresses)
            case {"notice": "ended", "code": code, "reason": reason}:
                self._end = StartError(Exit(code), reason)
        return fields


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the supervisor has not answered in time")
    return remaining
