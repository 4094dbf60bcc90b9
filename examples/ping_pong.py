"""Two greenlets that switch to each other by hand: a coroutine is a function that can stop in the middle.

    python examples/ping_pong.py          prints 12 56 34 78, one a line

Nothing but the code itself decides who runs: `switch` stops the caller and continues the other where it had stopped. An
event loop, hybrid's too, does no more than to call `switch` for you when a socket or a timer is ready.
"""

from __future__ import annotations

from greenlet import greenlet


def ping() -> None:
    """Print, hand over, and go on when handed back."""
    print(12)
    second.switch()
    print(34)
    second.switch()  # never returns: nobody switches back, and `pong` ends in the main program


def pong() -> None:
    """Print, hand back, and end when handed over again."""
    print(56)
    first.switch()
    print(78)


first = greenlet(ping)
second = greenlet(pong)

if __name__ == "__main__":
    first.switch()
