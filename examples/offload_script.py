"""Calls in other processes, outside of a service: a job, a closure, an executor, an error.

    python examples/offload_script.py

The same calls run in the offload workers of a service when its handlers make them; docs/offload.md explains that.
"""

from __future__ import annotations

import os

import hybrid


def primes_below(number: int) -> int:
    """Count them. This takes a while, and its process can do nothing else meanwhile."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, number))


def main() -> None:
    """Offload."""
    here = os.getpid()
    job = hybrid.offload(primes_below, 20_000, timeout=30)  # begins at once
    print("another process:", hybrid.offload(lambda: os.getpid() != here).result())
    print("primes below 20,000:", job.result())
    with hybrid.executor() as pool:
        print("primes below 10, 100, 1000:", *pool.map(primes_below, (10, 100, 1000)))
    try:
        hybrid.offload(int, "twelve").result()
    except ValueError as error:
        print("an error comes back as itself:", error)


if __name__ == "__main__":
    main()
