"""Random lines for the control line, run by hand: `python tests/fuzz/control_line.py --lines 1000000`.

One process: the server, its loop and a client (`support.control_line`). Each line must have exactly one answer. Prints
the lines per second, and by how much the memory of the process grew after the first tenth.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.control_line import exchange_random_lines


def main() -> None:
    """Run; ends with a traceback where a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    say(f"seed {options.seed}")
    begin = time.monotonic()
    exchange_random_lines(options.lines // 10, options.seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers, requests = exchange_random_lines(options.lines - options.lines // 10, options.seed + 1)
    seconds = time.monotonic() - begin
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    say(f"{options.lines} lines in {seconds:.1f} s; {answers} answers in the second part, {requests} requests")
    say(f"the memory of the process grew by {grown} KiB in the second part")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    main()
