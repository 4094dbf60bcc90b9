"""The same handler on one core and on all cores: coroutines share one core, processes use more.

    python examples/one_core_many_cores.py                measures both and prints the gain from the other cores
    hybrid run --workers auto --bind 127.0.0.1:9000 examples.one_core_many_cores:handle
    echo 20000 | nc -q1 127.0.0.1 9000                    answers 2262, the number of primes below 20,000

The handler computes. Meanwhile its worker serves no other client, however many greenlets there are: one loop uses one
core. A second worker uses a second core.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence

import hybrid

MOST = 1_000_000
CLIENTS_PER_WORKER = 8  # enough to keep every worker busy
QUESTION = 20_000


def count_primes(limit: int) -> int:
    """Return the number of primes below `limit`, in pure Python: about a millisecond for 20,000."""
    odd = [True] * (limit // 2)  # index i stands for the number 2 * i + 1
    for i in range(1, len(odd)):
        if odd[i]:
            for j in range(3 * i + 1, len(odd), 2 * i + 1):
                odd[j] = False
    return sum(odd) if limit > 2 else 0  # index 0 is the number 1, not a prime; count it for the prime 2


def handle(sock: socket.socket, address: object) -> None:
    """Answer every number with the number of primes below it."""
    with sock.makefile("rb") as lines:
        for line in lines:
            number = int(line) if line.strip().isdigit() else MOST + 1
            answer = str(count_primes(number)) if number <= MOST else f"a number up to {MOST}, please"
            sock.sendall(answer.encode() + b"\n")


def ask(address: str, until: float, answered: list[int]) -> None:
    """Send requests until `time.monotonic()` reaches `until`; append their number to `answered`."""
    host, port = address.rsplit(":", 1)
    count = 0
    with socket.create_connection((host, int(port)), timeout=30) as sock, sock.makefile("rb") as answers:
        while time.monotonic() < until:
            sock.sendall(b"%d\n" % QUESTION)
            if not answers.readline():
                raise ConnectionError("the service closed the connection")
            count += 1
    answered.append(count)


def measure(workers: int, seconds: float) -> float:
    """Return the answers per second of a service with `workers` workers, each pinned to its own core."""
    service = hybrid.Service(
        handle,
        bind="127.0.0.1:0",
        workers=workers,
        pin=True,
        stall_report=0,  # a worker that computes is not stuck
        log_level="warning",
    )
    with hybrid.Supervisor(service) as running:
        answered: list[int] = []
        until = time.monotonic() + seconds
        asking = [
            threading.Thread(target=ask, args=(running.addresses[0], until, answered))
            for _ in range(CLIENTS_PER_WORKER * workers)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    return sum(answered) / seconds


def main(arguments: Sequence[str]) -> None:
    """Measure with one worker and with one per core."""
    parser = argparse.ArgumentParser(description="The gain from the other cores.")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each of the two measurements")
    seconds = parser.parse_args(arguments).seconds
    cores = len(os.sched_getaffinity(0))
    one = measure(1, seconds)
    print(f" 1 worker:  {one:8.1f} answers a second", flush=True)
    if cores == 1:
        print("there is one core here: nothing to compare")
        return
    many = measure(cores, seconds)
    print(f"{cores:2} workers: {many:8.1f} answers a second, {many / one:.2f} times as many")


if __name__ == "__main__":
    main(sys.argv[1:])
