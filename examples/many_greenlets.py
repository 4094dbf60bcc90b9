"""Thousands of greenlets at once, on one core and one thread: waiting costs next to nothing.

    python examples/many_greenlets.py                     10,000 greenlets
    python examples/many_greenlets.py 50000 --loop gevent

Each sleeps for a tenth of a second. One after the other they would need minutes; together they need little more than
the time to start them. Handlers use the same `spawn`, `joinall` and `sleep`, which gevent's users know.
"""

from __future__ import annotations

import argparse
import time

import hybrid

NAP = 0.1  # seconds


def double(number: int) -> int:
    """Sleep while all others run, then return twice the number."""
    hybrid.sleep(NAP)
    return 2 * number


def many(count: int) -> int:
    """Start `count` greenlets, wait for all of them, and return the sum of their results."""
    greenlets = [hybrid.spawn(double, number) for number in range(count)]
    hybrid.joinall(greenlets, raise_error=True)
    return sum(one.get() for one in greenlets)


def main() -> None:
    """Run them on a loop and print the time it took."""
    parser = argparse.ArgumentParser(description="Many greenlets at once.")
    parser.add_argument("count", nargs="?", type=int, default=10_000)
    parser.add_argument("--loop", default="auto", help="as in: hybrid loops")
    given = parser.parse_args()
    started = time.perf_counter()
    total = hybrid.run(many, given.count, loop=given.loop)
    seconds = time.perf_counter() - started
    print(f"{given.count:,} greenlets slept {NAP} s each, all in {seconds:.2f} s; their sum is {total:,}")


if __name__ == "__main__":
    main()
