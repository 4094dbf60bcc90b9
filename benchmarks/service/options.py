"""Options of `hybrid run`, if the one that is installed has them."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

from benchmarks import servers

_SECONDS = 20.0


def known(*words: str) -> tuple[str, ...]:
    """Return `words`, an option and its value, or nothing if hybrid has no such option. Blocks a moment at first."""
    return words if re.search(rf"^ +{words[0]}(?![\w-])", _help(), re.MULTILINE) else ()


def missing(*names: str) -> list[str]:
    """Return a note for a table about the options that hybrid does not have: what was to differ by them does not."""
    return [f"! hybrid run has no {name}: it was left out" for name in names if not known(name)]


@functools.cache
def _help() -> str:
    command = [sys.executable, "-P", "-m", "hybrid", "run", "--help"]
    done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise servers.ServerFailed(f"hybrid run --help: {done.stderr.strip()[-200:]}")
    return done.stdout
