"""OpenSSL's own client, which can do what Python's cannot: speak TLS 1.1, renegotiate, ask for new keys."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.process import DEADLINE

PROGRAM = shutil.which("openssl")
REQUEST = b"GET /hello HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"


class Client:
    """A running `openssl s_client`; both of its outputs are one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.said = b""

    def types(self, text: bytes) -> None:
        """Enter a request, or a line with one of s_client's letters, K or R."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself, and what it said tells why
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def wait_says(self, words: bytes) -> None:
        """Wait until it has said so, and forget everything before it and it."""
        ends = time.monotonic() + DEADLINE
        while words not in self.said:
            assert self._read(ends), f"the end came before {words!r}:\n{self.said.decode(errors='replace')}"
        self.said = self.said.partition(words)[2]

    def wait_ends(self) -> str:
        """Wait until it closes its outputs; return what it has said since the last wait."""
        ends = time.monotonic() + DEADLINE
        while self._read(ends):
            pass
        return self.said.decode(errors="replace")

    def _read(self, ends: float) -> bool:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        assert select.select([fd], [], [], max(0, ends - time.monotonic()))[0], self.said.decode(errors="replace")
        part = os.read(fd, 65_536)
        self.said += part
        return bool(part)


@contextmanager
def s_client(address: tuple[str, int], trusted: Path, *options: str) -> Iterator[Client]:
    """Give a client that connects to `address`; it is killed at the end."""
    assert PROGRAM is not None
    host, port = address
    command = [PROGRAM, "s_client", "-connect", f"{host}:{port}", "-CAfile", str(trusted), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, bufsize=0) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


def ask(address: tuple[str, int], trusted: Path, *options: str) -> str:
    """Send `REQUEST`; return all that s_client says, up to the end of the connection."""
    with s_client(address, trusted, "-ign_eof", *options) as client:
        client.types(REQUEST)
        return client.wait_ends()
