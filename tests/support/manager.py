"""A service manager as systemd is one: the receiving end of NOTIFY_SOCKET (sd_notify(3))."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.process import DEADLINE


class Manager:
    """Receives the notifications of a service."""

    def __init__(self, address: str) -> None:
        """Bind a path, or `@name` of the abstract namespace."""
        self.address = address
        self.heard: list[str] = []
        """Everything that `wait` and `listen` have taken in, a datagram each."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind("\0" + address[1:] if address.startswith("@") else address)

    def hears(self) -> list[str]:
        """Everything that has arrived since; sending to a UNIX socket is done when it returns."""
        heard = []
        try:
            while True:
                heard.append(self._sock.recv(4097).decode())
        except BlockingIOError:
            return heard

    def listen(self, seconds: float) -> list[str]:
        """Return what arrives within `seconds`."""
        heard: list[str] = []
        until = time.monotonic() + seconds
        while (remaining := until - time.monotonic()) > 0:
            select.select([self._sock], [], [], remaining)
            heard += self.hears()
        self.heard += heard
        return heard

    @contextmanager
    def recorded(self) -> Iterator[list[str]]:
        """Take in at once what arrives while the block runs; give the list. A full queue does not block."""
        is_over = threading.Event()
        heard: list[str] = []

        def record() -> None:
            while not is_over.is_set():
                select.select([self._sock], [], [], 0.02)
                heard.extend(self.hears())

        thread = threading.Thread(target=record)
        thread.start()
        try:
            yield heard
        finally:
            is_over.set()
            thread.join()
            self.heard += heard

    def wait(self, pattern: str, deadline: float = DEADLINE, *, since: int = 0) -> str:
        """Wait for a datagram that matches, from number `since` of `heard` on; return it."""
        until = time.monotonic() + deadline
        while True:
            self.heard += self.hears()
            found = next((text for text in self.heard[since:] if re.search(pattern, text)), None)
            if found is not None:
                return found
            remaining = until - time.monotonic()
            assert remaining > 0, f"not within {deadline} s: {pattern!r}; heard: {self.heard}"
            select.select([self._sock], [], [], remaining)

    def goes_away(self) -> None:
        """Close the socket, and remove its file."""
        self._sock.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink(missing_ok=True)


@contextmanager
def managing(address: str) -> Iterator[Manager]:
    """Give a manager that goes away at the end."""
    manager = Manager(address)
    try:
        yield manager
    finally:
        manager.goes_away()
