"""The other end of the control socket: a supervisor that answers from a script.

`support.control_contract` has the shapes of its answers; `tests/contract/test_control.py` holds it to them.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

GREETING: dict[str, Any] = {"hybrid": "0.1.0", "protocol": 1, "name": "shop", "pid": 4711}
AT = 1764460000.0  # UNIX time of the statuses here
HANG_UP = object()
"""In an answer: close the connection here."""

Answer = Iterable[object]  # objects to send, or `HANG_UP`
Script = Mapping[str, Callable[[dict[str, Any]], Answer]]  # request -> its answer


def worker(slot: int, **changes: Any) -> dict[str, Any]:
    """Return a worker as a status has it."""
    return {
        "slot": slot, "pid": 4713 + slot, "state": "ready", "generation": 7, "up": 14_400.0, "restarts": 0,
        "stalled": None, "where": None, "busy": 0.62, "requests_per_second": 812.0, "requests": 1_234_567,
        "in_flight": 3, "connections": 41, "accepted": 9999, "adopted": 12, "queue": 0,
        "lag_p99": 0.004, "memory": 92_274_688,
        "responses": {"1xx": 0, "2xx": 1_234_000, "3xx": 0, "4xx": 500, "5xx": 67},
        "websockets": 0, "bytes_in": 1, "bytes_out": 2, "busy_seconds": 8000.5, "cpu_seconds": 7500.25,
        "durations": {"bounds": [0.001, 0.0025], "counts": [1_000_000, 200_000, 34_567], "sum": 2345.6},
        "log_dropped": 0, **changes,
    }  # fmt: skip


def service(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return a service as a status has it: two workers, of which the second is stalled."""
    stalled = {
        "state": "ready", "stalled": 2.3, "where": "shop/prices.py:88 in recompute", "busy": 1.0,
        "requests_per_second": 0.0, "in_flight": 9, "connections": 40, "queue": 17, "lag_p99": 2.3,
        "memory": 95_420_416,
    }  # fmt: skip
    return {
        "name": name, "kind": "application", "target": "shop:app", "phase": "serving", "loop": "epoll",
        "interface": "asgi", "generation": 7, "addresses": ["http://0.0.0.0:8000"], "wanted": 2, "ready": 2,
        "is_reloading": False, "depends": [],
        "last_reload": {"outcome": "complete", "reason": "", "at": AT - 260_000},
        "last_death": {"slot": 0, "pid": 4712, "how": "SIGKILL", "at": AT - 14_500},
        "failure": None, "is_sidecar": False, "ready_min": 1, "max_connections": 0, "backlog": 2048, "past": [],
        "queue": 17,
        "queues": [
            {"address": "0.0.0.0:8000", "slot": 0, "waiting": 0, "limit": 2048},
            {"address": "0.0.0.0:8000", "slot": 1, "waiting": 17, "limit": 2048},
        ],
        "companions": [],
        "offload": None,
        "counts": {
            "starts": 5, "starts_by": {"start": 2, "death": 1, "reload": 2},
            "deaths": {"SIGKILL": 1}, "reloads": {"complete": 6, "failed": 1}, "stalls": 3,
        },
        "workers": [worker(0, restarts=1), worker(1, **stalled)], **changes,
    }  # fmt: skip


def program(name: str = "mail", **changes: Any) -> dict[str, Any]:
    """Return a service that runs any program."""
    return service(name, **{
        "kind": "command", "target": "celery -A shop worker", "loop": "", "interface": "", "addresses": [],
        "queue": None, "queues": [], "wanted": 1, "ready": 1, "generation": 1, "last_reload": None, "last_death": None,
        "workers": [worker(0, pid=4720, generation=1, busy=None, requests_per_second=None, requests=None,
                           in_flight=None, connections=None, queue=None, lag_p99=None, memory=41_943_040)],
        **changes,
    })  # fmt: skip


def status(*services: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a status of a supervisor; without services of one."""
    return {
        "name": "shop", "pid": 4711, "version": "0.1.0", "python": "3.11.7", "phase": "serving", "up": 273_841.2,
        "at": AT, "since": AT - 273_841.2, "log_dropped": 0, "services": [*services] or [service()], **changes,
    }  # fmt: skip


FRAMES = [
    {"file": "shop/prices.py", "line": 88, "function": "recompute"},
    {"file": "shop/app.py", "line": 31, "function": "list_prices"},
]
STACKS: dict[str, Any] = {
    "workers": [
        {
            "service": "web", "slot": 0, "pid": 4713, "generation": 7, "source": "loop", "error": None,
            "threads": [{"name": "MainThread", "is_loop": True, "frames": []}],
            "greenlets": [],
            "tasks": [{"name": "Task-12", "waits_for": "a future", "frames": [
                {"file": "shop/app.py", "line": 40, "function": "order"}]}],
            "requests": [{"method": "POST", "path": "/orders", "seconds": 0.12, "id": None}],
        },
        {
            "service": "web", "slot": 1, "pid": 4714, "generation": 7, "source": "signal", "error": None,
            "threads": [{"name": "MainThread", "is_loop": True, "frames": FRAMES}],
            "greenlets": [], "tasks": [],
            "requests": [{"method": "GET", "path": "/prices", "seconds": 2.31, "id": None}],
        },
    ]
}  # fmt: skip
LABELS = [
    {
        "service": "web", "label": "checkout", "requests": 400, "seconds": 80.0, "loop_seconds": 30.0,
        "cpu_seconds": 24.0, "responses": {"1xx": 0, "2xx": 390, "3xx": 0, "4xx": 8, "5xx": 2},
    },
    {
        "service": "web", "label": "search", "requests": 9000, "seconds": 900.0, "loop_seconds": 10.0,
        "cpu_seconds": 6.0, "responses": {"1xx": 0, "2xx": 9000, "3xx": 0, "4xx": 0, "5xx": 0},
    },
]  # fmt: skip
BLOCKERS = [{"service": "web", "where": "shop/prices.py:88 in recompute", "stalls": 12, "seconds": 2.3}]
EVENTS: list[dict[str, Any]] = [
    {"event": "death", "at": AT - 14_500, "service": "web", "slot": 0, "pid": 4712, "generation": 7, "how": "SIGKILL"},
    {"event": "ready", "at": AT - 14_400, "service": "web", "slot": 0, "pid": 4713, "generation": 7,
     "reason": "death"},
    {"event": "stall", "at": AT - 2, "service": "web", "slot": 1, "pid": 4714, "generation": 7, "seconds": 2.3,
     "where": "shop/prices.py:88 in recompute"},
]  # fmt: skip


def result(**fields: Any) -> Callable[[dict[str, Any]], Answer]:
    """Answer with a result."""
    return lambda request: [{"id": request["id"], "result": copy.deepcopy(fields)}]


def failure(code: str, reason: str) -> Callable[[dict[str, Any]], Answer]:
    """Answer with an error."""
    return lambda request: [{"id": request["id"], "error": {"code": code, "reason": reason}}]


def after(*progress: Mapping[str, Any], then: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
    """Report progress, then answer as `then` does."""
    return lambda request: [*({"id": request["id"], "progress": dict(each)} for each in progress), *then(request)]


def silence(request: dict[str, Any]) -> Answer:
    """Never answer."""
    return ()


def _scaled(request: dict[str, Any]) -> Answer:
    """As a service `web` with two workers would."""
    wanted = request.get("workers", 2 + request.get("by", 0))
    progress = [{"ready": number, "of": wanted} for number in range(2, wanted)]
    return after(*progress, then=result(service=request.get("service", "web"), workers=wanted))(request)


def _stopped(request: dict[str, Any]) -> Answer:
    if "service" in request:
        return after({"left": 1}, then=result(service=request["service"]))(request)
    return [*after({"left": 2}, {"left": 1}, then=result(code=0))(request), HANG_UP]


def _stacks(request: dict[str, Any]) -> Answer:
    slot = request.get("slot")
    workers = [each for each in STACKS["workers"] if slot is None or each["slot"] == slot]
    return result(workers=workers)(request)


def _level(request: dict[str, Any]) -> Answer:
    return result(level=request.get("level"), **({"for": request["for"]} if "for" in request else {}))(request)


def _restarted(request: dict[str, Any]) -> Answer:
    done = result(service=request.get("service"), slot=request.get("slot"), pid=4811)
    return after({"ready": 0, "of": 1}, then=done)(request)


def _refusing(answer: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
    """Answer for the service `web` and its slots 0 and 1 only, as a supervisor does."""

    def answered(request: dict[str, Any]) -> Answer:
        if request.get("service", "web") != "web":
            return failure("unknown_service", f"there is no service {request['service']!r}, but web")(request)
        if request.get("slot", 0) not in (0, 1):
            return failure("unknown_slot", f"web has no slot {request['slot']}, but 0 and 1")(request)
        return answer(request)

    return answered


SHOP: Script = {
    "ping": result(),
    "status": _refusing(result(**status())),
    "reload": _refusing(
        after(
            {"service": "web", "ready": 0, "of": 2},
            {"service": "web", "ready": 1, "of": 2},
            then=result(services={"web": {"generation": 8}}),
        )
    ),
    "scale": _refusing(_scaled),
    "restart": _refusing(_restarted),
    "stop": _refusing(_stopped),
    "upgrade": after({"pid": 5000}, then=result(pid=5000)),
    "stacks": _refusing(_stacks),
    "blockers": _refusing(result(blockers=BLOCKERS)),
    "labels": _refusing(result(labels=LABELS)),
    "loglevel": _level,
    "subscribe": result(recent=EVENTS),
}
"""A supervisor `shop` with one service `web`, which carries out everything."""


class ControlPeer:
    """A supervisor that answers from a script, in a thread. Lists what it was asked in `asked`."""

    def __init__(
        self, script: Script = SHOP, *, address: str | None = None, greeting: object = GREETING, **changes: Any
    ) -> None:
        """Listen at `address`; `changes` are answers in the place of the script's.

        The default address is a new abstract name that no command finds, as those that run meanwhile would ask it too.
        """
        self.script = {**script, **changes}
        self.address = address or f"@hybrid-fake/{secrets.token_hex(8)}"
        self.asked: list[dict[str, Any]] = []
        self._greeting = greeting
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(b"\0" + self.address[1:].encode() if self.address[0] == "@" else self.address)
        self._listener.listen(16)
        self._end, self._told_to_end = socket.socketpair()
        self._clients: dict[int, tuple[socket.socket, bytes]] = {}  # descriptor -> connection, unfinished line
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def tell(self, *objects: object) -> None:
        """Send objects to every client, as events."""
        with self._sending:
            for sock, _ in self._clients.values():
                _send(sock, objects)

    def close(self) -> None:
        """Close the listener and every connection; may be called twice."""
        if self._end.fileno() < 0:
            return
        self._end.close()
        self._thread.join(20)
        self._told_to_end.close()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        """Serve until told to end; a thread of its own, so that a command can be asked in the test's process."""
        try:
            while True:
                watched = [self._told_to_end, self._listener, *(sock for sock, _ in self._clients.values())]
                ready, _, _ = select.select(watched, [], [])
                if self._told_to_end in ready:
                    return
                for sock in ready:
                    if sock is self._listener:
                        self._greet(sock.accept()[0])
                    elif not self._hear(sock):
                        with self._sending:
                            del self._clients[sock.fileno()]
                        sock.close()
        finally:
            for sock, _ in self._clients.values():
                sock.close()

    def _greet(self, sock: socket.socket) -> None:
        with self._sending:
            self._clients[sock.fileno()] = (sock, b"")
            if self._greeting is not None:
                _send(sock, [self._greeting])

    def _hear(self, sock: socket.socket) -> bool:
        """Answer what a client has sent; return False once it is gone, or to be closed."""
        try:
            data = sock.recv(1 << 16)
        except ConnectionError:
            data = b""
        *lines, rest = (self._clients[sock.fileno()][1] + data).split(b"\n")
        self._clients[sock.fileno()] = (sock, rest)
        return bool(data) and all(_send(sock, self._answers(line)) for line in lines)

    def _answers(self, line: bytes) -> Iterator[object]:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or "request" not in request:
            yield {"id": None, "error": {"code": "bad_request", "reason": "this line is no request"}}
            return
        self.asked.append(request)
        answer = self.script.get(request["request"], failure("bad_request", "there is no such request"))
        yield from answer(request)


def _send(sock: socket.socket, objects: Iterable[object]) -> bool:
    """Send objects as lines (bytes as they are); return False at `HANG_UP`, or if the client is gone."""
    for each in objects:
        if each is HANG_UP:
            return False
        line = each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n"
        try:
            sock.sendall(line)
        except ConnectionError:
            return False
    return True


def lines_of(sock: socket.socket, deadline: float = 20.0) -> Iterator[dict[str, Any]]:
    """Yield the objects that come over a connection, until its end; each within `deadline` seconds."""
    sock.settimeout(deadline)
    with contextlib.suppress(ConnectionError), sock.makefile("rb") as stream:
        for line in stream:
            yield json.loads(line)


def dial(address: str) -> socket.socket:
    """Return a plain connection to `@NAME` or a path. Raises `OSError`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(b"\0" + os.fsencode(address[1:]) if address[0] == "@" else address)
    except OSError:
        sock.close()
        raise
    return sock
