"""A `hybrid run` of a file with several services, and the pids of each."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hybrid.workers.contract.exits import Exit
from support import processes
from support.process import HybridProcess
from support.service import APPLICATIONS, eventually
from support.tcp import LISTEN, held, sockets_at

_PROGRAMS = APPLICATIONS / "programs.py"
_MARK = "TEST_OF_SEVERAL"  # a variable that every process of a run has, whatever group it is in
WEB = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
CHAT = """
async def handle(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def program(*words: str) -> str:
    """Return the value of `command` for a program of `tests/applications/programs.py`."""
    return str([sys.executable, "-S", "-E", str(_PROGRAMS), *words]).replace("'", '"')


THREE = f"""
workers = 1
[service.web]
target = "web:app"
bind = "127.0.0.1:0"
[service.chat]
target = "chat:handle"
bind = "127.0.0.1:0"
[service.ticks]
command = {program("wait")}
"""


class Several:
    """The services of a running supervisor."""

    def __init__(self, process: HybridProcess, mark: str) -> None:
        self.process = process
        self._mark = mark

    def pids(self, service: str) -> set[int]:
        """Return the living workers of a service that have said that they are ready, or of a program that is up."""
        said = rf" {service}/\d+ gen=\d+ pid=(\d+) (?:ready on|up) "
        found = {int(match[1]) for line in self.process.lines if (match := re.search(said, line))}
        return {pid for pid in found if processes.is_alive(pid)}

    def wait_pids(self, service: str, count: int, *, without: Collection[int] = ()) -> set[int]:
        """Wait until exactly `count` workers live, none of them in `without`; return them."""
        return eventually(
            lambda: len(pids := self.pids(service)) == count and pids.isdisjoint(without) and pids,
            f"{service} has {count} workers",
        )

    def address(self, service: str) -> tuple[str, int]:
        """Return where a service listens."""
        found = self.process.wait_for_log(rf" {service} pid=\d+ listening on 127.0.0.1:(\d+)")
        return "127.0.0.1", int(found[1])

    def everything(self) -> set[int]:
        """Return all living processes of the run but the supervisor, daemons too."""
        return marked(self._mark) - {self.process.pid}


def marked(mark: str) -> set[int]:
    """Return the living processes with this mark in their environment."""
    found = set()
    for one in psutil.process_iter(["pid"]):
        with suppress(psutil.Error, OSError):
            if one.environ().get(_MARK) == mark and processes.is_alive(one.pid):
                found.add(one.pid)
    return found


def refuses(address: tuple[str, int]) -> bool:
    """Return True if a connection is refused."""
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(address) != 0


def holders(address: tuple[str, int], pids: Collection[int]) -> dict[int, set[int]]:
    """Return which of these processes hold a listening socket at an address."""
    listening = sockets_at(address[1], {LISTEN})
    return {pid: both for pid in pids if (both := held(pid) & listening)}


@contextmanager
def several(
    text: str, *arguments: str, cwd: Path, serving: int | None = None, ends_with: Collection[int] = (Exit.OK,)
) -> Iterator[Several]:
    """Run the services of a file, and give them once `serving` of them serve (None: as many as it has).

    At the end, unless the test has ended it, the supervisor stops with one of `ends_with`, and leaves no process.
    """
    for name, content in (("hybrid.toml", text), ("web.py", WEB), ("chat.py", CHAT)):
        (cwd / name).write_text(content)
    env = {"PYTHONPATH": str(APPLICATIONS), _MARK: str(cwd)}
    process = HybridProcess("run", *arguments, cwd=cwd, env=env)
    try:
        count = text.count("[service.") if serving is None else serving
        if count:
            process.wait_for_log(r"serving with \d+ worker", count=count)
        yield Several(process, str(cwd))
        if process.is_running():
            code = process.stop()
            assert code in ends_with, f"exit code {code}; stderr:\n{process.stderr}"
        left = marked(str(cwd))
        assert not left, f"processes outlived the supervisor: {left}"
    finally:
        process.close()
        for pid in marked(str(cwd)):
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
