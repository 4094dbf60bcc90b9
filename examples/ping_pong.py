"""Two greenlets that switch to each other explicitly: a coroutine is a function that can pause in the middle.

    python examples/ping_pong.py          prints 12 56 34 78, one a line

The code itself decides which greenlet runs: `switch` pauses the caller and resumes the other where it had paused. An
event loop, hybrid's included, calls `switch` for you when a socket or a timer is ready.
"""

from __future__ import annotations

from greenlet import greenlet


def ping() -> None:
    """Print, switch to `pong`, and continue when it switches back."""
    print(12)
    second.switch()
    print(34)
    second.switch()  # never returns: `pong` does not switch back, and its end resumes the main program


def pong() -> None:
    """Print, switch back, and end when resumed."""
    print(56)
    first.switch()
    print(78)


first = greenlet(ping)
second = greenlet(pong)

if __name__ == "__main__":
    first.switch()
