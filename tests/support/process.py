"""A `hybrid` command in a process group of its own: start it, read its log, signal it, and be sure that it ends."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from support import processes, template

_ZYGOTE = "hybrid-zygote"
DEADLINE = 20.0  # seconds; what a loaded machine may need, never what a test expects
OUR_VARIABLES = ("HYBRID_", "LISTEN_", "PORT", "WEB_CONCURRENCY")
"""How the variables begin that the command reads."""


class HybridProcess:
    """One `python -m hybrid ...`, whose stderr is collected by a thread.

    Every wait has a deadline and raises `AssertionError` with the whole log when it passes or the process ends first.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str | None] | None = None,
        pass_fds: Sequence[int] = (),
        python: Sequence[str] = (),
        executable: Sequence[str] | None = None,
        executed: bool = False,
    ) -> None:
        """Start `python -m hybrid` with `arguments` in `cwd`; `env` adds to this environment, None removes.

        `python` are options of the interpreter. `executable` replaces `python -m hybrid` as a whole. The process is a
        fork of `support.template` where that can be, unless it is to be `executed`.
        """
        # -P: the tests' folder of that name must not be imported instead of the installed package
        command = [sys.executable, "-P", *python, "-m", "hybrid"] if executable is None else [*executable]
        self._lines: list[str] = []  # of stderr, without the line end
        self._news = threading.Condition()  # held to touch _lines and _ended
        self._ended = False  # stderr has reached its end: every process that held it is gone
        self._popen = (subprocess.Popen if executed else template.Popen)(
            [*command, *arguments],
            cwd=cwd,
            env=_environment(env or {}),
            pass_fds=pass_fds,
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._stdout: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect_stderr, daemon=True),
            threading.Thread(target=self._collect_stdout, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _collect_stderr(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _collect_stdout(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._stdout.append(line)

    @property
    def pid(self) -> int:
        """Process id of the supervisor, and of the process group."""
        return self._popen.pid

    @property
    def stderr(self) -> str:
        """Everything written to stderr so far."""
        with self._news:
            return "\n".join(self._lines)

    @property
    def stdout(self) -> str:
        """Everything written to stdout so far; complete after `wait`."""
        return "".join(self._stdout)

    @property
    def lines(self) -> list[str]:
        """The lines of stderr so far; `len()` of it marks a place for `wait_for_log(since=...)`."""
        with self._news:
            return list(self._lines)

    def has_logged(self, lines: Sequence[str]) -> None:
        """Add lines of a log that goes to a file, so that the addresses are known."""
        with self._news:
            self._lines += lines
            self._news.notify_all()

    @property
    def addresses(self) -> list[str]:
        """What the log says is listened on, in order, e.g. `127.0.0.1:40123`."""
        return [match[1] for line in self.lines if (match := re.search(r"listening on (\S+)", line))]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first TCP address."""
        tcp = next(address for address in self.addresses if "://" not in address and not address.startswith("unix:"))
        host, _, port = tcp.rpartition(":")
        return host.strip("[]"), int(port)

    def wait_for_log(
        self, pattern: str, deadline: float = DEADLINE, *, since: int = 0, count: int = 1
    ) -> re.Match[str]:
        """Wait until `count` lines from number `since` on match `pattern`; return the last match."""
        compiled = re.compile(pattern)
        until = time.monotonic() + deadline
        with self._news:
            while True:
                found = [match for line in self._lines[since:] if (match := compiled.search(line))]
                if len(found) >= count:
                    return found[count - 1]
                remaining = until - time.monotonic()
                if self._ended or remaining <= 0:
                    break
                self._news.wait(remaining)
        why = "the process ended" if self._ended else f"not within {deadline} s"
        raise AssertionError(f"no line like {pattern!r}: {why}; stderr:\n{self.stderr}")

    def wait_serving(self, deadline: float = DEADLINE) -> HybridProcess:
        """Wait until all workers have said Ready once; return self."""
        self.wait_for_log(r"serving with \d+ worker", deadline)
        return self

    def worker_pids(self) -> list[int]:
        """Return the pids of the supervisor's living workers, oldest first."""
        return [child for child in self._children() if processes.name(child) != _ZYGOTE]

    def zygote_pids(self) -> list[int]:
        """Return the pids of the supervisor's living zygotes, oldest first."""
        return [child for child in self._children() if processes.name(child) == _ZYGOTE]

    def _children(self) -> list[int]:
        return [child for child in sorted(processes.children(self.pid), key=processes.age) if processes.is_alive(child)]

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self._popen.send_signal(number)

    def is_running(self) -> bool:
        """Whether the supervisor has not ended yet."""
        return self._popen.poll() is None

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for the supervisor's end, and for the end of its output; return the exit code (negative: a signal)."""
        code = self._wait_ended(deadline)
        if code is None:
            raise AssertionError(f"still running after {deadline} s; stderr:\n{self.stderr}")
        for thread in self._threads:
            thread.join(deadline)
        return code

    def _wait_ended(self, deadline: float) -> int | None:
        """Wait for the end without the looks of `Popen.wait`, which are up to 50 ms apart; None: it has not ended."""
        if self._popen.poll() is None:
            ended = os.pidfd_open(self.pid)
            try:
                poll = select.poll()
                poll.register(ended, select.POLLIN)
                poll.poll(deadline * 1000)
            finally:
                os.close(ended)
        return self._popen.poll()

    def stop(self, deadline: float = DEADLINE) -> int:
        """Ask for a graceful stop (SIGTERM) and wait; return the exit code."""
        if self._popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def survivors(self) -> list[int]:
        """Return the pids of all living processes of the group."""
        return processes.group(self.pid)

    def close(self) -> list[int]:
        """Kill what is left of the group, reap, and close the pipes; return the pids that outlived the supervisor.

        A worker may end a little after its supervisor that was killed: it gets the deadline before it counts.
        """
        outlived: list[int] = []
        if self._popen.poll() is not None:
            outlived = self._wait_until_gone(DEADLINE)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._wait_ended(DEADLINE)
        self._wait_until_gone(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()
        return outlived

    def _wait_until_gone(self, deadline: float) -> list[int]:
        """Return the processes of the group that live on after `deadline` seconds.

        A killed orphan is gone for us as soon as it is a zombie, whenever init comes to reap it.
        """
        until = time.monotonic() + deadline
        while (alive := self.survivors()) and time.monotonic() < until:
            select.select([], [], [], 0.01)
        return alive


class RunHybrid(Protocol):
    """Starts `python -m hybrid run ...`; see `hybrid_run`."""

    def __call__(
        self,
        *arguments: str,
        app: str | None = None,
        env: Mapping[str, str | None] | None = None,
        serving: bool = True,
        **options: Any,
    ) -> HybridProcess:
        """Write `app` as `app.py` into the working directory, start, and wait for service unless told not to."""


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return {name: value for name, value in {**inherited, **changes}.items() if value is not None}
