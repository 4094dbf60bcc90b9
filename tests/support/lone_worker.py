"""One worker without a supervisor: the test holds the other end of its channel, its listeners, and its record."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Message, Order
from hybrid.workers.contract.scoreboard import CACHE_LINE, RECORD
from support import template
from support.worker_process import record_in

DEADLINE = 20.0  # seconds
SLOT = 1
TESTS = Path(__file__).parents[1]


class LoneWorker:
    """A worker of slot 1, its supervisor's end of the channel, its record on the scoreboard."""

    def __init__(self, listeners: list[tuple[socket.socket, str, int]], application: dict[str, Any], grace: float):
        self.channel, theirs = Channel.pair()
        board = os.memfd_create("scoreboard")
        os.ftruncate(board, CACHE_LINE + RECORD)
        self.record = record_in(board)
        given = {
            "listeners": [[sock.fileno(), kind, slot] for sock, kind, slot in listeners],
            "channel": theirs.fileno(),
            "board": board,
            "application": application,
            "grace": grace,
        }
        self.process = template.Popen(
            [sys.executable, "-P", str(TESTS / "support" / "worker_process.py"), json.dumps(given)],
            pass_fds=[theirs.fileno(), board, *(sock.fileno() for sock, _, _ in listeners)],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        os.close(board)

    def says(self) -> Message:
        """Wait for its next message."""
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "it says nothing"
        message = self.channel.receive_nowait()
        assert message is not None
        return message

    def is_told(self, order: Order, *descriptors: int) -> None:
        """Send it an order."""
        assert self.channel.hand_over_nowait(order, descriptors) if descriptors else self.channel.send_nowait(order)

    def ends(self) -> tuple[int, str]:
        """Wait for its end; return exit code and log."""
        _, log = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, log

    def close(self) -> None:
        """Kill it, if need be."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.channel.close()


class Start:
    """Starts workers of slot 1 on listeners that the test owns."""

    def __init__(self) -> None:
        self.tcp = listening()
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        self.foreign = listening()
        """The listener of slot 0, which every worker of streams has too."""
        self._workers: list[LoneWorker] = []

    def __call__(
        self, loop: str, target: str, kind: str = "stream", grace: float = 5.0, **application: Any
    ) -> LoneWorker:
        """Start a worker that serves a target of `support.worker_process` on `loop`."""
        given = {"reference": f"support.worker_process:{target}", "loop": loop, **application}
        if kind == "stream":
            listeners = [(self.foreign, kind, 0), (self.tcp, kind, SLOT)]
        else:
            listeners = [(self.udp, kind, SLOT)]
        self._workers.append(LoneWorker(listeners, given, grace))
        return self._workers[-1]

    def connect(self, listener: socket.socket | None = None) -> socket.socket:
        """Return a connection to the worker's own listener, or to another."""
        return socket.create_connection((listener or self.tcp).getsockname(), DEADLINE)

    def close(self) -> None:
        """End everything."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()  # their records hold descriptors
        for sock in (self.tcp, self.udp, self.foreign):
            sock.close()


def listening() -> socket.socket:
    """Return a listening socket of the loopback interface, as the supervisor makes them."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock
