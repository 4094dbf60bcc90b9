"""The suite `scale`: what an idle connection of each kind costs one worker, and what many workers cost the machine.

Connections: each is opened, gets one answer, and then waits for the rest of the round. Workers: a hello application,
started with more and more of them. The processor time is that of all processes of a server while no client asks
anything; memory is their PSS, a page that n processes share counting as one n-th for each (proc(5), smaps_rollup). What
the kernel keeps for sockets is the same for every server, and not in it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import figures, machine, report, servers, table
from benchmarks.load import LoadFailed
from benchmarks.servers import Command
from benchmarks.service import rows
from benchmarks.web import peers

CONNECTIONS = 10_000
WORKERS = (1, 4, 16, 64, 128)
_PEER_WORKERS = (1, 4, 16)  # of servers of which each worker imports for itself
_SPARE_FILES = 200  # descriptors a server needs besides its connections
_TIMEOUT = 10.0
_SETTLED_SECONDS = 2.0  # after the last answer, or the start
_LONG = "75"  # seconds that a client may idle between two requests; the rounds are shorter
_KEEP, _NO_PINGS = ("--keep-alive-timeout", _LONG), ("--websocket-ping-interval", "0")
_HELLO_WSGI, _HELLO_ASGI = (f"benchmarks.applications.hello_{interface}:app" for interface in ("wsgi", "asgi"))
_ECHO = "benchmarks.applications.echo_websocket:app"
_REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"  # of RFC 6455, section 1.3
)
_WORD = b"still there?"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of connection: what its client sends first, and what the answer holds."""

    asks: bytes
    answered: bytes


_STREAM, _HTTP = Kind(_WORD, _WORD), Kind(_REQUEST, b"200 OK")
_WEBSOCKET = Kind(_HANDSHAKE, b" 101 ")


@dataclasses.dataclass(frozen=True)
class Row:
    """A server, and the kind of its connections; or None, and how many workers it has."""

    command: Command
    kind: Kind | None = None
    workers: int = 1


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one round found. Of connections: what they add; of workers: what is there. Bytes, and seconds."""

    started: float | None
    """From the command to the line that all workers serve; None: the server has no such line."""
    pss: float
    """For each connection, or each worker."""
    idle: float
    """Processor time of all processes for each second without a request."""
    descriptors: int
    """Of the process that was started: hybrid's supervisor."""


_Found = dict[str, dict[int, Sample]]  # server -> round -> sample


def connection_rows() -> list[Row]:
    """Return the servers whose connections are counted: hybrid with each kind of target, and the peers."""
    kinds = (
        ("sync handler", "benchmarks.handlers:sync_echo", "epoll", (), _STREAM),
        ("async handler", "benchmarks.handlers:async_echo", "epoll", (), _STREAM),
        ("wsgi", _HELLO_WSGI, "epoll", ("--interface", "wsgi", *_KEEP), _HTTP),
        ("asgi", _HELLO_ASGI, "epoll", ("--interface", "asgi", *_KEEP), _HTTP),
        ("websocket", _ECHO, "epoll", ("--interface", "asgi", *_NO_PINGS), _WEBSOCKET),
        ("websocket", _ECHO, "uvloop", ("--interface", "asgi", *_NO_PINGS), _WEBSOCKET),
    )
    ours = [
        Row(servers.hybrid(f"hybrid {loop} {name}", target, loop=loop, options=options), kind)
        for name, target, loop, options, kind in kinds
    ]
    no_pings, many = ("--ws-ping-interval", "3600"), ("--backpressure", str(2 * CONNECTIONS))
    return [
        *ours,
        Row(peers.uvicorn("uvicorn asgi", _HELLO_ASGI, "--timeout-keep-alive", _LONG), _HTTP),
        Row(peers.uvicorn("uvicorn websocket", _ECHO, *no_pings), _WEBSOCKET),
        Row(peers.granian("granian asgi", _HELLO_ASGI, "asgi", *many), _HTTP),
        Row(peers.granian("granian websocket", _ECHO, "asgi", *many), _WEBSOCKET),
    ]


def worker_rows() -> list[Row]:
    """Return the servers with more and more workers."""
    ours = [
        Row(_with_workers(servers.hybrid(f"hybrid epoll {count}", _HELLO_ASGI, workers=count)), workers=count)
        for count in WORKERS
    ]
    beside = [
        row
        for count in _PEER_WORKERS
        for row in (
            Row(peers.uvicorn(f"uvicorn {count}", _HELLO_ASGI, "--workers", str(count)), workers=count),
            Row(peers.granian(f"granian {count}", _HELLO_ASGI, "asgi", workers=count), workers=count),
        )
    ]
    return [*ours, *beside]


def _with_workers(command: Command) -> Command:
    return dataclasses.replace(command, argv=(*command.argv, "--interface", "asgi"))


def measure(plan: report.Plan) -> report.Report:
    """Measure both parts. Blocks for about 21 x runs x (seconds + 8)."""
    parts = {"connections": connection_rows(), "workers": worker_rows()}
    chosen = {part: [row for row in every if rows.wanted(plan, part, [row.command])] for part, every in parts.items()}
    rows.some(plan, itertools.chain(*chosen.values()))
    if chosen["connections"]:
        _check_files()
    failures: dict[str, str] = {}
    found = {part: _measured(part, wanted, plan, failures) for part, wanted in chosen.items() if wanted}
    data = {
        f"{part} {name}": {"rounds": {number: dataclasses.asdict(one) for number, one in samples.items()}}
        for part, servers_found in found.items()
        for name, samples in servers_found.items()
    }
    return report.Report("\n\n".join(_text(part, one, plan) for part, one in found.items()), data, failures)


def _check_files() -> None:
    limit = machine.allow_many_files()
    if limit < CONNECTIONS + _SPARE_FILES:
        raise LookupError(
            f"scale needs {CONNECTIONS + _SPARE_FILES} open files, and {limit} are allowed: raise ulimit -Hn"
        )


def _measured(part: str, chosen: list[Row], plan: report.Plan, failures: dict[str, str]) -> _Found:
    found: _Found = {row.command.name: {} for row in chosen}
    for number in range(plan.runs):
        for row in figures.rotated(chosen, number):
            name = row.command.name
            report.say(f"scale, round {number + 1} of {plan.runs}: {part} {name}")
            with report.attempt(f"{part} {name}", failures), servers.Server(row.command) as server:
                found[name][number] = _sample(server, row, plan.seconds)
    return found


def _sample(server: servers.Server, row: Row, seconds: float) -> Sample:
    if row.kind is None:
        time.sleep(_SETTLED_SECONDS)
        added = _pss(server.pid) / row.workers
        return _looked_at(server, added, seconds)
    with _opened(server, row.kind, 1):  # what the first connection alone brings in (imports, buffers) is not counted
        before = _pss(server.pid)
    with _opened(server, row.kind, CONNECTIONS):
        time.sleep(_SETTLED_SECONDS)
        added = (_pss(server.pid) - before) / CONNECTIONS
        return _looked_at(server, added, seconds)


def _looked_at(server: servers.Server, added: float, seconds: float) -> Sample:
    started = server.boot_seconds if server.command.serving == servers.SERVING else None
    return Sample(started, added, _idle(server.pid, seconds), _descriptors(server.pid))


@contextmanager
def _opened(server: servers.Server, kind: Kind, count: int) -> Iterator[None]:
    """Hold connections, each after one answer; each must still be open at the end. Raises `LoadFailed`."""
    with ExitStack() as stack:
        socks: list[socket.socket] = []
        try:
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=_TIMEOUT))
                sock.sendall(kind.asks)
                if kind.answered not in sock.recv(4096):
                    raise LoadFailed("a connection got a wrong answer")
                socks.append(sock)
        except OSError as error:
            raise LoadFailed(f"connection {len(socks) + 1} failed: {error}") from error
        yield
        for sock in socks:
            sock.setblocking(False)
        closed = sum(_is_closed(sock) for sock in socks)
        if closed:
            raise LoadFailed(f"{closed} of {count} connections were closed meanwhile")


def _is_closed(sock: socket.socket) -> bool:
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _idle(pid: int, seconds: float) -> float:
    """Return the processor time that a server uses in each second. Blocks for `seconds`."""
    before, began = machine.group_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (machine.group_seconds(pid) - before) / (time.monotonic() - began)


def _pss(pid: int) -> int:
    return sum(machine.memory_of(member)["Pss"] for member in machine.group_members(pid))


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names only


def _text(part: str, found: _Found, plan: report.Plan) -> str:
    if part == "connections":
        title = f"Scale, {CONNECTIONS:,} idle connections, one worker; medians of {plan.runs} rounds"
        columns = ["<server", "KiB/connection", "idle, % of a core"]
        return table.render(title, columns, [_connection_line(name, samples) for name, samples in found.items()])
    title = f"Scale, a hello application with more and more workers; medians of {plan.runs} rounds"
    columns = [
        "<server and workers",
        "starts in s",
        "MiB/worker",
        "idle, % of a core",
        "descriptors of the first process",
    ]
    return table.render(title, columns, [_worker_line(name, samples) for name, samples in found.items()])


def _connection_line(name: str, samples: dict[int, Sample]) -> list[str]:
    return [name, _middle(samples, "pss", 2**-10, 2), _middle(samples, "idle", 100, 2)]


def _worker_line(name: str, samples: dict[int, Sample]) -> list[str]:
    return [
        name,
        _middle(samples, "started", 1, 2),
        _middle(samples, "pss", 2**-20, 1),
        _middle(samples, "idle", 100, 2),
        _middle(samples, "descriptors", 1, 0),
    ]


def _middle(samples: dict[int, Sample], field: str, scale: float, digits: int) -> str:
    return table.show(
        figures.median([value * scale for one in samples.values() if (value := getattr(one, field)) is not None]),
        digits,
    )
