"""Runs wrk (a Debian package; https://github.com/wg/wrk) and reads its figures. One error is a failed measurement."""

from __future__ import annotations

import json
import math
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import compiler, machine
from benchmarks.load import Load, LoadFailed

_SCRIPT = Path(__file__).with_name("request.lua")
_MARK = "FIGURES "
_TIMEOUT_SECONDS = 10  # for an answer; one that takes longer is an error
_GRACE_SECONDS = 20.0
_ERRORS = {  # what wrk counts -> how we say it
    "connect": "connections that failed",
    "read": "errors while reading",
    "write": "errors while writing",
    "timeout": f"answers that took longer than {_TIMEOUT_SECONDS} s",
    "status": "answers of status 400 or above",
}


def program() -> str:
    """Return the path of wrk. Raises `compiler.ToolMissing` if it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise compiler.ToolMissing("the HTTP suites use wrk as their client: apt-get install wrk")
    return found


def run(url: str, *, connections: int, seconds: float, core: int | None, request: tuple[str, ...]) -> Load:
    """Send one request over and over on kept-alive connections; `request` is what `request.lua` takes.

    Blocks for `seconds`, rounded up to whole ones: wrk knows no others. Raises `LoadFailed` after the first error of
    any kind, and `compiler.ToolMissing`.
    """
    argv = [program(), "--threads", "1", "--connections", str(connections), "--duration", f"{math.ceil(seconds)}s"]
    argv += ["--timeout", f"{_TIMEOUT_SECONDS}s", "--script", str(_SCRIPT), url, "--", *request]
    before = _used_by_children()
    out = _output(argv, core, math.ceil(seconds) + _GRACE_SECONDS)
    used = _used_by_children() - before
    lines = [line for line in out.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise LoadFailed(f"wrk told no figures: {out.strip()[-200:]}")
    return _load(json.loads(lines[-1].removeprefix(_MARK)), used)


def _load(found: dict[str, Any], used: float) -> Load:
    errors = [f"{found[name]} {words}" for name, words in _ERRORS.items() if found[name]]
    if errors or not found["requests"]:
        raise LoadFailed(f"wrk counted {', '.join(errors) or 'no answer at all'}, and {found['requests']} answers")
    seconds = found["duration_us"] / 1e6
    return Load(found["requests"] / seconds, found["p50_us"], found["p99_us"], found["requests"], used / seconds)


def _output(argv: list[str], core: int | None, seconds: float) -> str:
    with machine.started_on(core):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise LoadFailed("wrk did not end in time") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        raise LoadFailed(f"wrk failed: {(said or out).decode(errors='replace').strip()}")
    return out.decode(errors="replace")


def _used_by_children() -> float:
    """Processor seconds of the children that have been waited for; the server still runs meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
