"""A program: `supervise` with a tiny body and no event loop.

It takes one argument, JSON:

    {"body": "answer", "binds": ["127.0.0.1:0"], "workers": 2, ..., "control": 7}

Other keys are fields of `Settings`. `control` is the descriptor of the supervisor's end of a control line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.deployment import Deployment, ServiceSpec
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.start import supervise
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Ready
from hybrid.workers.contract.scoreboard import ANSWERED, ASKED
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec


def answer(spec: WorkerSpec) -> int:
    """Answer each connection with facts about the worker; on SIGTERM serve the queue, then end."""
    wake, ring = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGTERM, lambda *_: os.write(ring, b"x"))
    listeners = {item.sock.fileno(): item for item in spec.own_listeners if item.kind is ListenerKind.STREAM}
    poll = select.poll()
    for fd in (wake, spec.channel.fileno(), *listeners):
        poll.register(fd, select.POLLIN)
    spec.channel.send_nowait(Ready("none", "tiny"))
    logging.getLogger("hybrid").info("ready on none (tiny)")
    while True:
        ready = {fd for fd, _ in poll.poll()}
        for fd in listeners if wake in ready else ready & listeners.keys():
            _serve_queue(spec, listeners[fd])
        if wake in ready or (spec.channel.fileno() in ready and not _obey(spec)):
            return Exit.OK


def _obey(spec: WorkerSpec) -> bool:
    """Answer pings; False at the end of the channel."""
    try:
        while spec.channel.receive_nowait() is not None:
            spec.record.times[ANSWERED] = spec.record.times[ASKED]
    except ChannelClosed:
        return False
    return True


def _serve_queue(spec: WorkerSpec, listener: Listener) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.sock.accept()
            with connection:
                connection.sendall(json.dumps(_facts(spec)).encode())


def _facts(spec: WorkerSpec) -> dict[str, object]:
    fds = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return {
        "slot": spec.slot,
        "pid": os.getpid(),
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "channels": sum(_is_seqpacket(fd) for fd in fds),
        "listeners": sum(one.kind is not ListenerKind.PASSED for one in spec.listeners),
    }


def _is_seqpacket(fd: int) -> bool:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return False
    kind = sock.type
    sock.detach()
    return kind == socket.SOCK_SEQPACKET


def deaf(spec: WorkerSpec) -> int:
    """Ignore SIGTERM, and live until killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spec.channel.send_nowait(Ready("none", "tiny"))
    while True:
        signal.pause()


def fail(spec: WorkerSpec) -> int:
    """Say that there is no such target."""
    spec.channel.send_nowait(BootFailed(Exit.TARGET, "no module named 'app'"))
    return Exit.TARGET


def crash(spec: WorkerSpec) -> int:
    """Die silently."""
    os._exit(9)


def hang(spec: WorkerSpec) -> int:
    """Never become ready."""
    signal.pause()
    return Exit.OK


def throw(spec: WorkerSpec) -> int:
    """Let an exception through."""
    raise LookupError("nobody catches this")


def leave(spec: WorkerSpec) -> int:
    """Leave as an application does that calls `sys.exit`."""
    sys.exit("enough")


def leave_silently(spec: WorkerSpec) -> int:
    """Leave without a reason."""
    sys.exit()


def leave_with_a_code(spec: WorkerSpec) -> int:
    """Leave with a code of the application's own."""
    sys.exit(42)


def leave_an_orphan(spec: WorkerSpec) -> int:
    """Leave a process behind that ends after its parent, and answer."""
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    return answer(spec)


_ALL = (answer, deaf, fail, crash, hang, throw, leave, leave_silently, leave_with_a_code, leave_an_orphan)
BODIES = {body.__name__: body for body in _ALL}


class Bare:
    """A program of a body alone, that has nothing to import."""

    def __init__(self, body: Callable[[WorkerSpec], int]) -> None:
        self.body = body

    def warm(self, *, audit: bool, dump_fd: int) -> None:
        """Do nothing."""


def main() -> int:
    fields = json.loads(sys.argv[1])
    body = BODIES[fields.pop("body", "answer")]
    fd = fields.pop("control", None)
    fields["binds"] = tuple(map(parse_bind, fields.get("binds", ["127.0.0.1:0"])))
    fields["pidfile"] = Path(fields["pidfile"]) if "pidfile" in fields else None
    control = None if fd is None else Control(socket.socket(fileno=fd))
    spec = ServiceSpec(Settings(**{"workers": 2, "preload": "off", **fields}), Bare(body))
    return supervise(Deployment.of(spec), control=control)


if __name__ == "__main__":
    sys.stdout.write("written before the fork")  # not flushed: into a pipe
    sys.exit(main())
