"""Starts a server that is to be measured, waits for its words, and always ends it and all its children."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import compiler, machine

ROOT = Path(__file__).parent.parent
_BOOT_SECONDS = 30.0
_STOP_SECONDS = 5.0
_RETRY_SECONDS = 0.01
SERVING = r"serving with \d+ worker"
"""What hybrid says once all its workers serve."""
LISTENING = r"listening on 127\.0\.0\.1:(\d+)"
_KEPT_LINES = 5  # of what a server said last, for the error message
_PIPE_BYTES = 1 << 20  # of a server's words; nobody reads while it is measured, and it must not have to wait for that
FREE_PORT = "{port}"  # stands in a command for a port that is free when it is started
FREE_PATH = "{path}"  # stands in a word of a command for the path of a UNIX socket, which its server is to make


class ServerFailed(RuntimeError):  # noqa: N818 - an event, named as the standard library does it
    """A server did not start, or ended, or did not say in time what was waited for."""


@dataclasses.dataclass(frozen=True)
class Command:
    """How a server is started; its name is what the tables show."""

    name: str
    argv: tuple[str, ...]
    listening: str = LISTENING
    """The line (regular expression) that tells the port; not looked for if the command has a `FREE_PORT` or a path."""
    serving: str | None = None
    """A later line, after which every worker serves; None: there is none."""


def hybrid(name: str, target: str, *, loop: str = "epoll", workers: int = 1, options: tuple[str, ...] = ()) -> Command:
    """Return the command that serves `target` with hybrid on a free port."""
    fixed = ("--bind", "127.0.0.1:0", "--graceful-timeout", "2", "--loop", loop, "--workers", str(workers))
    # -P: the installed package, not the sources in the working directory
    argv = (sys.executable, "-P", "-m", "hybrid", "run", target, *fixed, *options)
    return Command(name, argv, serving=SERVING)


def peer(name: str, module: str) -> Command:
    """Return the command that runs one of `benchmarks.peers`."""
    return Command(name, (sys.executable, "-m", "benchmarks.peers", module))


def c_server(name: str) -> Command:
    """Return the command that runs the C server, the limit; compiles it if need be."""
    return Command(name, (str(compiler.program("echo_server")),))


class Server:
    """A running server, as a context manager: it serves inside the block, and nothing of it is left after it."""

    def __init__(self, command: Command, core: int | None = None) -> None:
        self.command = command
        self.port = 0
        self.path = ""  # of its UNIX socket, if it has no port
        self._directory: tempfile.TemporaryDirectory[str] | None = None  # of that socket
        self.boot_seconds = 0.0  # from the start of the process to serving
        self.matched: re.Match[str]  # the line that said so last
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""  # of its words, what follows the last line that was waited for
        self._said: list[str] = []  # its last lines

    @property
    def pid(self) -> int:
        """The process that was started; also its process group."""
        if self._process is None:
            raise ServerFailed(f"{self.command.name} is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        started = time.perf_counter()
        if FREE_PORT in self.command.argv:
            self.port = _free_port()
        if any(FREE_PATH in word for word in self.command.argv):
            self._directory = tempfile.TemporaryDirectory()
            self.path = f"{self._directory.name}/socket"
        words = [str(self.port) if word == FREE_PORT else word for word in self.command.argv]
        self._start([word.replace(FREE_PATH, self.path) for word in words])
        try:
            if not self.port and not self.path:
                self.matched = self.wait_for(self.command.listening, _BOOT_SECONDS)
                self.port = int(self.matched.group(1))
            if self.command.serving:
                self.matched = self.wait_for(self.command.serving, _BOOT_SECONDS)
            if self.path or FREE_PORT in self.command.argv:
                self._wait_until_it_accepts(_BOOT_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.perf_counter() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self._last_words())
        self.stop()

    def _start(self, argv: list[str]) -> None:
        try:
            with machine.started_on(self._core):
                self._process = subprocess.Popen(
                    argv,
                    cwd=ROOT,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,  # granian talks on stdout, the others on stderr
                    start_new_session=True,  # Ctrl-C is for us; they are ended by `stop`
                )
        except FileNotFoundError:
            raise ServerFailed(f"there is no {argv[0]}: pip install -e '.[benchmarks]'") from None
        assert self._process.stdout is not None
        fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _wait_until_it_accepts(self, seconds: float) -> None:
        """For granian, which says that it has started before it listens, and for what says no path."""
        deadline = time.monotonic() + seconds
        while not (_accepts_at(self.path) if self.path else _accepts(self.port)):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(self._complaint(f"does not listen on {self.path or f'port {self.port}'}"))
            time.sleep(_RETRY_SECONDS)

    def _last_words(self) -> str:
        """What it has said and nobody has read yet, if anything: why a measurement failed may stand there."""
        if self._process is not None and self._process.stdout is not None:
            fd = self._process.stdout.fileno()
            if select.select([fd], [], [], 0)[0]:
                self._unread += os.read(fd, 65536)
        words = self._unread.decode(errors="replace").splitlines()[-_KEPT_LINES:]
        return "the server's last words: " + (" | ".join(words) or "(none)")

    def wait_for(self, pattern: str, seconds: float) -> re.Match[str]:
        """Read what the server says until a line matches. Blocks; raises `ServerFailed` at the deadline."""
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self._unread:
                line, self._unread = self._unread.split(b"\n", 1)
                self._said = [*self._said[1 - _KEPT_LINES :], line.decode(errors="replace")]
                if found := re.search(pattern, self._said[-1]):
                    return found
            self._read_more(deadline, pattern)

    def _read_more(self, deadline: float, pattern: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise ServerFailed(self._complaint(f"did not say {pattern!r} in time"))
        more = os.read(fd, 65536)
        if not more:
            raise ServerFailed(self._complaint(f"ended before it said {pattern!r}"))
        self._unread += more

    def _complaint(self, what: str) -> str:
        return f"{self.command.name} {what}; its last words: " + (" | ".join(self._said) or "(none)")

    def ended_within(self, seconds: float) -> bool:
        """Whether the process that was started has ended by itself, or does so now. Blocks so long at most."""
        if self._process is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def stop(self) -> None:
        """End it: SIGTERM, five seconds, then SIGKILL to its whole process group. May be called twice."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill_group(process.pid)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            if self._directory is not None:
                self._directory.cleanup()


def _free_port() -> int:
    """Return a port that nobody uses now; somebody else may take it before the server does, then it says so."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_STOP_SECONDS).close()
    except ConnectionRefusedError:
        return False  # the rule, for a moment
    return True


def _accepts_at(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_STOP_SECONDS)
        return sock.connect_ex(path) == 0


def _kill_group(pgid: int) -> None:
    try:
        os.killpg(pgid, signal.SIGKILL)
    except ProcessLookupError:
        return  # the rule: nobody was left


def _environment() -> dict[str, str]:
    """Ours, with compiled bytecode kept beside the C programs: else a boot would measure Python's compiler."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": str(compiler.BUILD / "pycache")}
