"""A program that plays the supervisor which replaces another, one step at a time, as a test tells it.

The environment names a UNIX socket of the test's, STAGE. Each datagram from there is a step with its arguments, JSON:
`{"do": "open", "binds": [...], "workers": 2}`; the answer is one datagram. It ends when the test hangs up.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.sockets import Listeners, open_listeners
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.upgrade.handover import Inheritance, inherited_binds
from hybrid.workers.contract.worker_spec import ListenerKind

DEADLINE = 20.0  # seconds


class Successor:
    """The steps."""

    def __init__(self) -> None:
        self.inheritance: Inheritance | None = None
        self.listeners: Listeners | None = None
        self.pidfile: Pidfile | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "group": os.getpgrp(),
            "directory": str(Path.cwd()),
            "arguments": sys.argv[1:],
            "binds": inherited_binds(os.environ),
            "environment": dict(os.environ),
        }

    def take(self) -> dict[str, Any]:
        self.inheritance = Inheritance.take(os.environ)
        if self.inheritance is None:
            return {"inherits": False, "variable": "HYBRID_HANDOVER" in os.environ}
        return {"inherits": True, "binds": self.inheritance.binds, "variable": "HYBRID_HANDOVER" in os.environ}

    def open(self, binds: list[str], workers: int, pidfile: str | None = None, **fields: Any) -> dict[str, Any]:
        try:
            if pidfile is not None:
                assert self.inheritance is not None
                self.pidfile = Pidfile(Path(pidfile), self.inheritance.predecessor_pid)
            settings = Settings(binds=tuple(map(parse_bind, binds)), workers=workers, balance="off", **fields)
            share = None if self.inheritance is None else self.inheritance.share("web", settings.binds)
            self.listeners = open_listeners(settings, share)
            if self.inheritance is not None:
                self.inheritance.close_unused()
        except (BindError, PidfileError) as error:
            return {"error": str(error)}
        return {"addresses": self.listeners.addresses, "slots": self.listeners.slots, **self.count()}

    def count(self) -> dict[str, Any]:
        assert self.listeners is not None
        return {"listeners": [[one.address, one.slot] for one in self.listeners.all()]}

    def grow(self, slots: int) -> dict[str, Any]:
        assert self.listeners is not None
        try:
            self.listeners.grow(slots)
        except BindError as error:
            return {"error": str(error)}
        return self.count()

    def steer(self, slots: list[int]) -> None:
        assert self.listeners is not None
        self.listeners.steer(tuple(slots))

    def hold_and_refuse(self) -> None:
        assert self.listeners is not None
        self.listeners.hold()
        self.listeners.refuse()

    def serving(self) -> None:
        assert self.inheritance is not None
        self.inheritance.serving()

    def wait_news(self) -> dict[str, Any]:
        assert self.inheritance is not None
        poll = select.poll()
        poll.register(self.inheritance.fileno(), select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "nothing was said"
        return {"news": self.inheritance.poll_nowait()}

    def news_nowait(self) -> dict[str, Any]:
        assert self.inheritance is not None
        return {"news": self.inheritance.poll_nowait()}

    def take_over(self) -> dict[str, Any]:
        assert self.inheritance is not None
        assert self.listeners is not None
        remarks = self.listeners.take_over()
        if self.pidfile is not None:
            self.pidfile.take_over()
        self.inheritance.taken()
        return {"remarks": remarks, "slots": self.listeners.slots, **self.count()}

    def answer(self) -> dict[str, Any]:
        """Accept everything that waits, and answer it; slot -> how many."""
        assert self.listeners is not None
        counts = {}
        for listener in self.listeners.all():
            key = f"{listener.address} {listener.slot}"
            counts[key] = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    if listener.kind is ListenerKind.STREAM:
                        connection, _ = listener.sock.accept()
                        connection.sendall(b"successor")
                        connection.close()
                    else:
                        listener.sock.recv(100)
                    counts[key] += 1
        return counts

    def descriptors_of_a_program(self) -> list[str]:
        """The open descriptors of a program started without closing any; one is for reading /proc."""
        code = "import os; print(*[name for name in os.listdir('/proc/self/fd')])"
        command = [sys.executable, "-I", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True, close_fds=False).stdout.split()

    def close(self) -> None:
        assert self.inheritance is not None
        if self.listeners is not None:
            self.listeners.close()
        self.inheritance.close()
        if self.pidfile is not None:
            self.pidfile.release()


def main() -> None:
    successor = Successor()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stage:
        stage.connect(os.environ["STAGE"])
        while step := stage.recv(100_000):
            arguments = json.loads(step)
            result = getattr(successor, arguments.pop("do"))(**arguments)
            stage.send(json.dumps(result).encode())


if __name__ == "__main__":
    main()
