"""A fork of a template is what a program started by the interpreter is; what it cannot be is executed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import template
from support.leaks import Census

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
PF_FORKNOEXEC = 0x40  # include/linux/sched.h
SHOWS = """
import json, os, resource, signal, sys
handlers = {name: str(signal.getsignal(number)) for name, number in signal.Signals.__members__.items()}
streams = [sys.stdin, sys.stdout, sys.stderr]
shown = {
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": str(sys.flags),
    "cwd": os.getcwd(), "environment": dict(os.environ), "parent": os.getppid(),
    "leads": os.getpgid(0) == os.getpid(), "session": os.getsid(0), "umask": os.umask(0o22),
    "handlers": handlers, "mask": [*signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "descriptors": sorted(os.listdir("/proc/self/fd"), key=int),
    "inheritable": {fd: os.get_inheritable(fd) for fd in range(3)},
    "streams": [(stream.name, stream.mode, stream.encoding, stream.errors, stream.isatty()) for stream in streams],
    "buffered": [stream.line_buffering for stream in streams],
    "limits": [resource.getrlimit(number) for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
    "name": __name__, "file": sys.modules["__main__"].__dict__.get("__file__"), "comm": open("/proc/self/comm").read(),
}
print(json.dumps(shown))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script.py"
    file.write_text(SHOWS)
    return file


def output(kind: type[subprocess.Popen[Any]], *command: str, **options: Any) -> tuple[str, str, int]:
    command = (sys.executable, "-P", *command)
    pipe = subprocess.PIPE
    with kind(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, **options) as process:
        stdout, stderr = process.communicate(timeout=60)
    return stdout, stderr, process.returncode


def is_fork(*command: str, **options: Any) -> bool:
    """Return True if the program is a fork: the kernel notes that its process has executed nothing."""
    command = (sys.executable, "-P", *command)
    with template.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as process:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()  # also of one that has ended
        process.communicate(timeout=60)
    return bool(int(fields[6]) & PF_FORKNOEXEC)


@pytest.mark.skipif(template.EXECUTES, reason="all is executed")
class TestFork:
    @pytest.mark.parametrize("options", [{}, {"process_group": 0}], ids=["in our group", "in its own"])
    def test_it_sees_what_a_started_program_sees(self, script: Path, options: dict[str, Any]) -> None:
        read, write = os.pipe()
        options |= {"cwd": script.parent, "env": {**ENVIRONMENT, "SEEN": "y\udcff"}, "pass_fds": [write]}
        arguments = (str(script), "an argument", "")
        try:
            forked, started = (output(kind, *arguments, **options) for kind in (template.Popen, subprocess.Popen))
        finally:
            os.close(read)
            os.close(write)
        assert forked[1:] == started[1:] == ("", 0)
        assert json.loads(forked[0]) == json.loads(started[0])

    def test_it_finds_modules_in_the_folders_of_pythonpath(self, script: Path) -> None:
        environment = {**ENVIRONMENT, "PYTHONPATH": str(template.APPLICATIONS)}
        assert is_fork(str(script), env=environment)
        forked, started = (output(kind, str(script), env=environment) for kind in (template.Popen, subprocess.Popen))
        assert json.loads(forked[0]) == json.loads(started[0])

    def test_it_writes_no_bytecode_where_python_is_told_so(self, tmp_path: Path) -> None:
        (tmp_path / "imported.py").touch()
        script = tmp_path / "imports.py"
        script.write_text("import sys, imported\nprint(sys.dont_write_bytecode)\n")
        environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        assert is_fork(str(script), env=environment)
        assert output(template.Popen, str(script), env=environment) == ("True\n", "", 0)
        assert not (tmp_path / "__pycache__").exists()

    @pytest.mark.parametrize("arguments", [("--version",), ("run", "--nothing"), ("config", "--json")])
    def test_it_is_the_command(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        command = ("-m", "hybrid", *arguments)
        options: dict[str, Any] = {"cwd": tmp_path, "env": ENVIRONMENT}
        assert is_fork(*command, stderr=subprocess.DEVNULL, **options)
        forked, started = (output(kind, *command, **options) for kind in (template.Popen, subprocess.Popen))
        assert forked == started

    @pytest.mark.parametrize(
        ("ends", "code"),
        [
            ("sys.exit()", 0),
            ("sys.exit(3)", 3),
            ("sys.exit(-1)", 255),
            ("sys.exit('a reason')", 1),
            ("raise LookupError", 1),
            ("os._exit(4)", 4),
            ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
            ("raise KeyboardInterrupt", -signal.SIGINT),
            ("atexit.register(print, 'left')", 0),
            ("threading.Thread(target=print, args=['a thread']).start()", 0),
        ],
    )
    def test_it_ends_as_a_started_program(self, tmp_path: Path, ends: str, code: int) -> None:
        file = tmp_path / "ends.py"
        file.write_text(f"import atexit, os, signal, sys, threading\nprint('unflushed')\n{ends}\n")
        forked, started = (output(kind, str(file), env=ENVIRONMENT) for kind in (template.Popen, subprocess.Popen))
        assert forked[2] == started[2] == code
        assert forked[0] == started[0]
        assert forked[1].splitlines()[-1:] == started[1].splitlines()[-1:]

    def test_a_template_is_no_leak_but_a_fork_is(self, tmp_path: Path) -> None:
        file = tmp_path / "waits.py"
        file.write_text("input()")
        census = Census()
        with template.Popen([sys.executable, "-P", str(file)], stdin=subprocess.PIPE, env=ENVIRONMENT) as process:
            found = census.newcomers()
            assert [line for line in found if f"pid={process.pid}" in line]
            assert len(found) == 2  # it and the pipe
            process.kill()
        assert census.newcomers() == []

    def test_one_that_cannot_begin_is_an_error(self, script: Path, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="does not begin"):
            output(template.Popen, str(script), cwd=tmp_path / "nowhere", env=ENVIRONMENT)


@contextmanager
def other_signal_mask() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ignored_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def other_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("state", [other_signal_mask, ignored_signal, other_limit])
def test_a_program_that_inherits_other_state_is_executed(script: Path, state: Any) -> None:
    with state():
        assert not is_fork(str(script), env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHONWARNINGS", "error"), ("PYTHONPATH", "."), ("LC_ALL", "C"), ("TZ", "X")]
)
def test_a_program_with_another_environment_of_the_interpreter_is_executed(script: Path, name: str, value: str) -> None:
    assert not is_fork(str(script), env={**ENVIRONMENT, name: value})


@pytest.mark.parametrize("name", ["sitecustomize.py", "email.py", "hybrid"])
def test_a_program_whose_folders_hide_what_a_template_has_is_executed(script: Path, name: str) -> None:
    assert is_fork(str(script), env={**ENVIRONMENT, "PYTHONPATH": str(script.parent)}) != template.EXECUTES
    (script.parent / name).touch()
    assert not is_fork(str(script), env={**ENVIRONMENT, "PYTHONPATH": str(script.parent)})


@pytest.mark.parametrize("option", [("-X", "dev"), ("-c", "pass")])
def test_a_program_with_options_of_the_interpreter_is_executed(script: Path, option: tuple[str, ...]) -> None:
    assert not is_fork(*option, str(script), env=ENVIRONMENT)
