"""A quick start of programs that import hybrid: a fork of a process that has imported what they need.

The start of an interpreter and the imports are most of the processor time of a short run. `Popen` starts a program in
this way where a test cannot see the difference, except in /proc/PID/cmdline and /proc/PID/environ. Otherwise it
executes the program: another interpreter or options of it, variables that an interpreter reads when it starts (but for
PYTHONDONTWRITEBYTECODE, and for a PYTHONPATH whose folders hide nothing), other limits or another signal mask than
those of the template. It executes all with HYBRID_TEST_EXEC=1, and under coverage.

A template has imported what the command imports before it forks, libraries, and what most workers import: a supervisor
that is a fork has these modules, too, and its workers find them. Tests of what a process imports execute the command.
gevent patches the standard library before the workers' modules are imported, so a run that may use gevent has a
template of its own: with gevent, without its patch, and with modules that a worker imports before it or that it does
not concern.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import template_process

APPLICATIONS = Path(__file__).resolve().parents[1] / "applications"
DEADLINE = 60.0  # seconds; what a loaded machine may need, the first time for the imports too
_HTTP2 = ("ngh2",) if importlib.util.find_spec("ngh2") else ()
_COMMAND = ("hybrid.cli.commands",)
_LIBRARIES = (
    *("asyncio", "csv", "email.utils", "faulthandler", "hashlib", "http", "importlib.resources", "queue", "random"),
    *("encodings.idna", "resource", "secrets", "tempfile", "termios"),
    *("encodings.ascii", "greenlet", "httptools", "websockets.extensions.permessage_deflate", "websockets.server"),
)
_WORKERS = tuple(
    f"hybrid.workers.{name}"
    for name in (
        *("accepting.recycle", "boot.crash", "boot.dispositions", "boot.heap", "boot.target", "loops.hub_loop", "main"),
        *("apps.asgi.interface", "apps.stream", "apps.web", "apps.wsgi.interface", "http.h1.connection", "serving"),
        *("boot.audit", "boot.native_threads", "hub.lazy_timeout", "hub.sockets", "pollers.epoll", "preload"),
        *("loops.asyncio_loop", "loops.native_streams", "loops.native_transport", "loops.uvloop_loop", "pollers.poll"),
        *(("http.h2.choice",) if _HTTP2 else ()),
    )
)
_GEVENT = (
    *("gevent.events", "gevent.local", "gevent.monkey", "gevent.selectors", "gevent.signal", "gevent.socket"),
    *("csv", "email.utils", "encodings.idna", "faulthandler", "hashlib", "http", "importlib.metadata"),
    *("importlib.resources", "random", "resource", "secrets", "tempfile", "termios"),
    *("greenlet", "httptools", "websockets.extensions.permessage_deflate", "websockets.server", *_HTTP2),
    *("hybrid.workers.boot.crash", "hybrid.workers.boot.dispositions", "hybrid.workers.boot.heap"),
    *("hybrid.workers.boot.target", "hybrid.workers.loops.gevent_loop", "hybrid.workers.main"),
)
_OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_")
"""How the variables begin that an interpreter, or a library below it, reads when it starts."""
_IMITATED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")  # what `template_process.become` does as an interpreter
_CUSTOMISING = frozenset({"sitecustomize", "usercustomize"})
_NOT_TO_BE_HIDDEN = (
    sys.stdlib_module_names
    | _CUSTOMISING
    | {name.partition(".")[0] for name in (*_COMMAND, *_LIBRARIES, *_GEVENT, "click")}
)
_INHERITED = ("SigBlk", "SigIgn", "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Cap", "Cpus_allowed:")
"""How the lines of /proc/PID/status begin that tell what a child inherits."""
EXECUTES = os.environ.get("HYBRID_TEST_EXEC") == "1" or any(name.startswith("COVERAGE_") for name in os.environ)


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` of a command that begins with `sys.executable -P`; a fork of a template where that can be.

    The command is `-m MODULE ...` or `FILE ...`. The options are those of `subprocess.Popen` that the tests use.
    """

    def _execute_child(  # type: ignore[override]
        self, args: Sequence[str], executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Sequence[int],
        cwd: Path | str | None, env: Mapping[str, str] | None, startupinfo: Any, creationflags: Any, shell: Any,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int, *rest: Any,
    ) -> None:  # fmt: skip
        """Start the program: what `subprocess.Popen` calls once it has made the pipes."""
        *_, process_group = rest
        command, environment = [*map(str, args)], dict(os.environ if env is None else env)
        template = _template_for(command, cwd, environment)
        if template is not None:
            request = {
                "command": command[2:],
                "cwd": os.fspath(cwd or Path.cwd()),
                "environment": environment,
                "leads": process_group == 0,
            }
            standard = {number: given for number, given in enumerate((p2cread, c2pwrite, errwrite)) if given != -1}
            pid = template.fork(request, {0: 0, 1: 1, 2: 2} | standard | {fd: fd for fd in pass_fds})
            if pid is not None:
                self.pid, self._child_created = pid, True
                self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]
                return
        super()._execute_child(  # type: ignore[misc]
            args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *rest,
        )  # fmt: skip


class Template:
    """A process that is forked. It ends with this process, or when it is closed."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()  # held from a request to its answer
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.settimeout(DEADLINE)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", template_process.__file__, str(theirs.fileno()), *modules],
                cwd="/",
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # most of its children get pipes, too
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def descriptors(self) -> set[int]:
        """Return the descriptors of this process that belong to the template."""
        assert self._process.stdout is not None
        return {self._requests.fileno(), self._process.stdout.fileno()}

    def fork(self, request: dict[str, Any], descriptors: Mapping[int, int]) -> int | None:
        """Start a program; return its pid, or None if that is not possible here.

        `descriptors` are those that it gets, by its own numbers. Raises `AssertionError` if it does not begin.
        """
        message = json.dumps({**request, "descriptors": [*descriptors]}).encode()
        if (
            os.getpid() != self._owner
            or len(message) > template_process.LONGEST
            or len(descriptors) >= template_process.MOST
        ):
            return None
        news, theirs = os.pipe()
        with open(news, "rb") as file:  # noqa: PTH123 - a descriptor
            pid = self._ask(message, theirs, [theirs, *descriptors.values()])
            if pid == -1:
                return None
            if _is_readable(news) and file.read() == template_process.BEGUN:
                return pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise AssertionError(f"a fork of the template does not begin: {request['command']}; its output says why")

    def _ask(self, message: bytes, theirs: int, descriptors: Sequence[int]) -> int:
        with self._lock:
            try:
                socket.send_fds(self._requests, [message], descriptors)
            finally:
                os.close(theirs)
            try:
                answer = self._requests.recv(100)
            except TimeoutError:  # a later answer would be taken for that to the next request
                self._process.kill()
                raise AssertionError(f"the template does not answer within {DEADLINE} s") from None
        if not answer:
            raise AssertionError(f"the template has ended:\n{self._process.communicate()[0].decode()}")
        return int(answer)

    def close(self) -> None:
        """End it, unless this is a fork of the process that started it."""
        if os.getpid() == self._owner:
            self._requests.close()
            self._process.communicate()


@functools.cache
def _template(modules: tuple[str, ...]) -> Template:
    made = Template(modules)
    _made.append(made)
    atexit.register(made.close)
    return made


_made: list[Template] = []


def descriptors() -> set[int]:
    """Return the descriptors of this process that belong to templates, which stay until its end."""
    return set().union(*(made.descriptors() for made in _made))


def pids() -> set[int]:
    """Return the pids of the templates."""
    return {made.pid for made in _made}


def _template_for(command: Sequence[str], cwd: Path | str | None, environment: Mapping[str, str]) -> Template | None:
    """Return the template that can become the command; None if the command is to be executed."""
    if EXECUTES or [*command[:2]] != [sys.executable, "-P"]:
        return None
    if command[2] != "-m" and command[2].startswith("-"):
        return None
    if not _is_imitated(environment.get("PYTHONPATH", "")) or _begin(environment) != usual_begin():
        return None
    beside = _GEVENT if _may_use_gevent(command, cwd, environment) else (*_LIBRARIES, *_WORKERS)
    return _template((*_COMMAND, *beside))


def _is_imitated(path: str) -> bool:
    """Return True if the folders of a PYTHONPATH hide no module of a template, and none that Python runs by itself."""
    folders = [Path(folder) for folder in path.split(os.pathsep)] if path else []
    return all(
        folder.is_absolute()
        and folder.is_dir()
        and _NOT_TO_BE_HIDDEN.isdisjoint(entry.name.partition(".")[0] for entry in folder.iterdir())
        for folder in folders
    )


@functools.cache
def usual_begin() -> tuple[object, ...]:
    """Return what programs of the tests inherit. It is that of the first call, which is before all tests."""
    return _begin(os.environ)


def _begin(environment: Mapping[str, str]) -> tuple[object, ...]:
    """Return what a program inherits that is started now, as far as it is not given to it."""
    status = Path("/proc/thread-self/status").read_text().splitlines()
    inherited = [line for line in status if line.startswith(_INHERITED)]
    return _of_the_interpreter(environment), inherited, Path("/proc/self/limits").read_text()


def _may_use_gevent(command: Sequence[str], cwd: Path | str | None, environment: Mapping[str, str]) -> bool:
    file = Path(cwd or ".", "hybrid.toml")
    texts = [*command, *environment.values(), file.read_text() if file.exists() else ""]
    return any("gevent" in text for text in texts)


def _of_the_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_OF_THE_INTERPRETER) and name not in _IMITATED
    }


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(DEADLINE * 1000))
