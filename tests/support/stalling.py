"""A program that stalls in its main thread in the way that its argument names; it writes `>` before it stalls.

It takes the descriptor for its stacks, the way, and whether the large signal stack is set first.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from greenlet import greenlet

from hybrid.workers.boot import crash, stall
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS

FOREVER = 60.0  # seconds; longer than any test


def say() -> None:
    os.write(1, b">")


def spin() -> None:
    say()
    while True:
        pass


def sleep() -> None:
    say()
    time.sleep(FOREVER)


def receive() -> None:
    """A system call that is restarted after a signal: Python does not see it."""
    left, right = socket.socketpair()
    with left, right:
        say()
        left.recv(1)


def lock() -> None:
    gate = threading.Lock()
    gate.acquire()
    say()
    gate.acquire()


def hold() -> None:
    """C code that keeps the interpreter and waits, in a system call that is restarted."""
    libc = ctypes.PyDLL(None)
    left, right = socket.socketpair()
    room = ctypes.create_string_buffer(1)
    with left, right:
        say()
        libc.recv(left.fileno(), room, 1, 0)


def count() -> None:
    """C code that keeps the interpreter and computes."""
    say()
    sum(range(10**11))


def match() -> None:
    """A regular expression that finds no end; the module looks for signals itself."""
    say()
    re.match(r"(a+)+$", "a" * 60 + "b")


def library() -> None:
    """The standard library's code that the application has called."""
    say()
    threading.Event().wait(FOREVER)


def green() -> None:
    """In a greenlet, which has a separate stack."""
    greenlet(in_greenlet).switch()


def in_greenlet() -> None:
    spin()


def many() -> None:
    """Beside more threads than faulthandler would show."""
    for _ in range(150):
        threading.Thread(target=sleep_quietly, daemon=True).start()
    hold()


def sleep_quietly() -> None:
    time.sleep(FOREVER)


def deaf() -> None:
    """With the handlers replaced by other code."""
    signal.signal(TELL_STACKS, signal.SIG_IGN)
    spin()


def blocking() -> None:
    """With the second signal blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {DUMP_STACK})
    hold()


def send_bad_messages() -> None:
    """Write more than there is room for, and continue."""
    fd = int(sys.argv[1])
    try:
        while True:
            os.write(fd, b'Current thread 0x1 (most recent call first):\n  File "\x1b[2J.py", line 1 in x\n' * 1000)
    except PermissionError:
        spin()


def forked() -> None:
    """A child gets both signals, and ends as it meant to."""
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), TELL_STACKS)
        os.kill(os.getpid(), DUMP_STACK)
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    os.write(1, str(os.waitstatus_to_exitcode(status)).encode())
    sleep()


def both() -> None:
    """Get both signals in a call that ends by itself, which must not show them."""
    libc = ctypes.CDLL(None, use_errno=True)
    left, right = socket.socketpair()
    threading.Timer(0.05, os.kill, (os.getpid(), TELL_STACKS)).start()
    threading.Timer(0.1, os.kill, (os.getpid(), DUMP_STACK)).start()
    threading.Timer(0.2, left.send, (b"!",)).start()
    room = ctypes.create_string_buffer(1)
    got = libc.recv(right.fileno(), room, 1, 0)
    os.write(1, f"{got} {ctypes.get_errno()}".encode())
    left.close()
    right.close()
    sleep()


WAYS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        *(spin, sleep, receive, lock, hold, count, match, library, green, many),
        *(deaf, blocking, send_bad_messages, forked, both),
    )
}

if __name__ == "__main__":
    fd, way = int(sys.argv[1]), sys.argv[2]
    if way != "unprepared":
        stall.dump_on_request(fd)
        crash.dump_on_crash(2)
    if way.startswith("import "):
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - the tests' own folder
        __import__(way.removeprefix("import "))
    WAYS.get(way, spin)()
