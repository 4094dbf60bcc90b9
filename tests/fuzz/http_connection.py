"""A fuzz target for the HTTP connection, run by hand: `python tests/fuzz/http_connection.py --seconds 60`.

With atheris installed, coverage guides it; the tables of malformed and odd requests are its first corpus. Else
hypothesis makes the inputs. Either way `support.ordeal` says what must hold, and each input is sent twice: cut, and in
one piece.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    import atheris
except ImportError:
    atheris = None

if atheris is None:
    from support.ordeal import undergo
else:
    with atheris.instrument_imports(include=["hybrid.workers.http", "hybrid.workers.apps"]):
        from support.ordeal import undergo

from support.malformed import MALFORMED, ODD
from support.requests import SPOILERS, cut

_CUTS = 3  # bytes of an input that say where to cut the rest


def compare(runner: asyncio.Runner, data: bytes, where: Iterable[int]) -> None:
    """Send `data` cut and whole; raise where a check fails or the two differ."""
    parts = cut(data, list(where))
    in_parts, whole = runner.run(undergo(parts)), runner.run(undergo([data]))
    if in_parts != whole:
        raise AssertionError(f"in parts: {in_parts}; whole: {whole}; parts: {parts}")


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def guided(seconds: int) -> None:
    """Let atheris find inputs; ends the process."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, row in enumerate((*MALFORMED, *ODD)):
            if len(row.request) < 2000:
                (corpus / str(number)).write_bytes(b"\x20\x50\x90" + row.request)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in SPOILERS))

        def one(data: bytes) -> None:
            compare(runner, data[_CUTS:], data[:_CUTS])

        options = [f"-max_total_time={seconds}", "-max_len=3000", "-len_control=0", f"-dict={words}", str(corpus)]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


def unguided(seconds: int) -> None:
    """Let hypothesis make inputs."""
    from hypothesis import HealthCheck, given, settings
    from support.requests import garbage, points

    count = 0
    until = time.monotonic() + seconds
    with asyncio.Runner() as runner:

        @given(garbage, points)
        @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def one(data: bytes, where: list[int]) -> None:
            nonlocal count
            count += 1
            compare(runner, data, where)

        while time.monotonic() < until:
            one()
            sys.stdout.write(f"{count} inputs\n")
            sys.stdout.flush()


def main() -> None:
    """Fuzz for as long as asked; a failure is a traceback and an exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long to go on")
    parser.add_argument("--unguided", action="store_true", help="hypothesis, also where atheris is installed")
    arguments = parser.parse_args()
    if atheris is None or arguments.unguided:
        unguided(arguments.seconds)
    else:
        guided(arguments.seconds)


if __name__ == "__main__":
    main()
