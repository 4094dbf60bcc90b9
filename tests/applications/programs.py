"""A program for services that run a command: `python programs.py WORD [ARGUMENT]`.

Started with -S -E, as a test starts dozens of them. It says what it is in one line, once it can be signalled.
"""

from __future__ import annotations

import os
import signal
import sys


def say(*words: object) -> None:
    """Write one line."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def wait() -> None:
    """Say that it is up, and wait for signals."""
    say("up", os.getpid(), os.environ["HYBRID_WORKER_SERVICE"], os.environ["HYBRID_WORKER_SLOT"])
    while True:
        signal.pause()


def deaf() -> None:
    """Ignore the request to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait()


def family() -> None:
    """Have two children that ignore the request to end, one of them in the background of a shell's kind."""
    for _ in range(2):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("child", os.getpid())
            while True:
                signal.pause()
    wait()


def polite() -> None:
    """End with code 0 at SIGINT."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    wait()


def ends() -> None:
    """End at once with an exit code."""
    say("ends")
    os._exit(int(sys.argv[2]))


def told() -> None:
    """Show what it has inherited: descriptors, group, input."""
    fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - without site, no pathlib either
    say("fds", *fds)
    say("leads", os.getpgrp() == os.getpid(), "input", repr(sys.stdin.read()))
    wait()


if __name__ == "__main__":
    {"wait": wait, "deaf": deaf, "family": family, "polite": polite, "ends": ends, "told": told}[sys.argv[1]]()
