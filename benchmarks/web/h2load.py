"""Runs h2load (of nghttp2) and reads its figures. One request that fails is a failed measurement."""

from __future__ import annotations

import math
import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks import compiler, figures, machine
from benchmarks.load import Load, LoadFailed

_GRACE_SECONDS = 20.0
_RATE = re.compile(r"finished in \S+, ([0-9.]+) req/s")
_TOLD = re.compile(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


def program() -> str:
    """Return the path of h2load. Raises `compiler.ToolMissing` if it is not installed."""
    found = shutil.which("h2load")
    if found is None:
        raise compiler.ToolMissing("the h2 suite uses h2load as its client: apt-get install nghttp2-client")
    return found


def run(url: str, *, connections: int, streams: int, seconds: float, core: int | None) -> Load:
    """Send one request over and over, `streams` of them at once on each connection, by prior knowledge.

    Blocks for `seconds`, rounded up to whole ones. Raises `LoadFailed`, and `compiler.ToolMissing`.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests"
        argv = [program(), "-D", str(math.ceil(seconds)), "-c", str(connections), "-m", str(streams)]
        before = _used_by_children()
        out = _output([*argv, f"--log-file={log}", url], core, math.ceil(seconds) + _GRACE_SECONDS)
        used = _used_by_children() - before
        rate, told = _RATE.search(out), _TOLD.search(out)
        if rate is None or told is None:
            raise LoadFailed(f"h2load told no figures: {out.strip()[-200:]}")
        done, succeeded, *failures = map(int, told.groups())
        if any(failures) or not done or succeeded != done:
            raise LoadFailed(f"h2load counted {told[0]}")
        p50, p99 = _percentiles(log)
    return Load(float(rate[1]), p50, p99, done, used / math.ceil(seconds))


def _percentiles(log: Path) -> tuple[float, float]:
    """Return p50 and p99 in microseconds; each line of the log has start, status and duration."""
    taken = sorted(int(line.split()[2]) for line in log.read_text(encoding="ascii").splitlines())
    return float(figures.median(taken) or 0.0), float(taken[int(0.99 * (len(taken) - 1))])


def _output(argv: list[str], core: int | None, seconds: float) -> str:
    with machine.started_on(core):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise LoadFailed("h2load did not end in time") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        raise LoadFailed(f"h2load failed: {out.decode(errors='replace').strip()}")
    return out.decode(errors="replace")


def _used_by_children() -> float:
    """Processor seconds of the children that have been waited for; the server still runs meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
