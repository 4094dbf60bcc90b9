"""A program that has imported what a command needs, and becomes that command in a child for each request.

The parent of a child is the process that started this program (CLONE_PARENT, clone(2)), as if it had started the
command itself. A request comes with the descriptors of the command, and before them one for news. It is answered with
the pid of the child, or -1; the child writes `BEGUN` as news once it is set up. See `template` for the other side.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import itertools
import json
import os
import runpy
import socket
import sys
import threading
import types
from typing import Any, NoReturn

LONGEST = 1 << 16  # bytes of a request
MOST = 32  # descriptors of a request
BEGUN = b"begun"
_CLONE3 = 435  # on every architecture
_CLONE_PARENT = 0x8000  # linux/sched.h
_CLONE_CHILD_CLEARTID = 0x0020_0000
_CLONE_CHILD_SETTID = 0x0100_0000
_PR_GET_TID_ADDRESS = 40  # linux/prctl.h


class _CloneArguments(ctypes.Structure):
    """`struct clone_args` in its first version (linux/sched.h)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    )


class _Fork:
    """Forks this process: the children are its siblings. os.fork() cannot do that."""

    def __init__(self) -> None:
        self._libc = ctypes.PyDLL(None)  # it keeps the GIL
        self._libc.syscall.restype = ctypes.c_long
        self._arguments = _CloneArguments(flags=_CLONE_PARENT)
        place = ctypes.c_uint64()
        if self._libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), 0, 0, 0) == 0:
            # the C library keeps the number of the thread, and its fork(3) has the kernel put the new one there
            self._arguments.flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
            self._arguments.child_tid = place.value

    def __call__(self) -> int:
        """Return 0 in the child; otherwise its pid, or -1 if there is none."""
        python, arguments = ctypes.pythonapi, self._arguments
        python.PyOS_BeforeFork()
        pid: int = self._libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
        if pid == 0:
            python.PyOS_AfterFork_Child()
        else:
            python.PyOS_AfterFork_Parent()
        return pid


def serve(requests: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a child for each request; return in the child, with the request and its descriptors.

    Ends this process when the other side has closed its socket.
    """
    fork = _Fork()
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, LONGEST, MOST)
        if not message:
            os._exit(0)
        if (pid := fork()) == 0:
            requests.close()
            return json.loads(message), descriptors
        requests.send(b"%d" % pid)
        for fd in descriptors:
            os.close(fd)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Make this process what it would be, had the interpreter been started for the request."""
    from hybrid.supervisor.upgrade import invocation

    news = _place(request["descriptors"], descriptors)
    if request["leads"]:
        os.setpgid(0, 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if folders := os.environ.get("PYTHONPATH"):
        sys.path[:0] = folders.split(os.pathsep)
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.orig_argv = [sys.executable, "-P", *request["command"]]
    invocation._AT_IMPORT = invocation._read()  # type: ignore[misc]  # how this program was started
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.write(news, BEGUN)
    os.close(news)


def _place(numbers: list[int], descriptors: list[int]) -> int:
    """Give the descriptors behind the first one these numbers, and close all others; return the first."""
    above = max(numbers) + 1
    news, *given = (fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in descriptors)
    for fd, number in zip(given, numbers, strict=True):
        os.dup2(fd, number)
    for kept, following in itertools.pairwise([*sorted(numbers), news, os.sysconf("SC_OPEN_MAX")]):
        os.closerange(kept + 1, following)
    return news


def run(command: list[str]) -> None:
    """Run `-m MODULE ...` or `FILE ...` as `__main__`, as the interpreter does."""
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy._run_module_as_main(command[1])  # type: ignore[attr-defined]  # what the interpreter calls
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


def leave(code: object) -> NoReturn:
    """End this process with a code of `sys.exit`, as the interpreter does, but without freeing each object.

    Memory shared with a template would be copied for that, page by page, which takes longer than the start.
    """
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0 if code is None else code & 0xFF if isinstance(code, int) else 1)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # otherwise the first collection of each child copies every page with an object
    request, descriptors = serve(socket.socket(fileno=int(sys.argv[1])))
    become(request, descriptors)
    try:
        run(request["command"])
    except SystemExit as error:
        leave(error.code)
    leave(None)
