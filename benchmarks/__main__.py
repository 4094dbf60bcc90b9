"""The command line of the benchmarks: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import signal
import sys
from pathlib import Path

from benchmarks import compiler, machine, report

_TCP = ("echo", "cpu", "memory", "boot")
_HELLO = ("wsgi", "asgi", "wsgi-varied", "asgi-varied", "wsgi-close", "asgi-close")
_HTTP = (*_HELLO, "fastapi", "upload", "download", "websocket", "https", "h2")
_SERVICE = ("fairness", "lifecycle", "footprint", "balance", "scale")
_CALLS = "offload"
_MODULES = {
    **{name: f"benchmarks.{name}" for name in _TCP},
    "slowloris": "benchmarks.web.slowloris",
    **{name: f"benchmarks.service.{name}" for name in _SERVICE},
    _CALLS: "benchmarks.offload.suite",
}
_SUITES = (*_TCP, *_HTTP, "slowloris", *_SERVICE, _CALLS)

_MANUAL = """\
Measures hybrid beside the servers people use today, in one run on one machine, and prints a table for each suite.

suites (default: all of them)
  echo     64 connections x 64 bytes, ping-pong, every byte compared: hybrid on its six loops with the three kinds of
           handlers; gevent StreamServer, asyncio and uvloop (streams, protocol); a C epoll server as the limit
  cpu      a CPU-bound handler with one worker and with two
  memory   a worker, and an idle connection at 10,000 of them
  boot     from the command to serving; from a worker's SIGKILL to its successor's first answer

  wsgi       hello: hybrid on its six loops; granian, bjoern, gunicorn (gevent, sync)
  asgi       hello: hybrid; granian, uvicorn, hypercorn, gunicorn (asgi)
  wsgi-varied  hello: heads that differ in target, cookie, request id and forwarded address
  asgi-varied  the same
  wsgi-close   hello: a new connection for each request
  asgi-close   the same
  fastapi    an endpoint that validates path, query and JSON body: hybrid and the ASGI servers
  upload     1 MiB to the server, over WSGI and over ASGI
  download   1 MiB from the server, over WSGI and over ASGI
  websocket  100 echo clients, 64 bytes, every byte compared: hybrid and the ASGI servers
  https      hello over TLS 1.3: hybrid and the ASGI servers
  h2         hello over HTTP/2, 10 connections x 32 requests at once: hybrid; granian, uvicorn with zttp, hypercorn
  slowloris  p50 and p99 of good clients, alone and beside 500 slow ones and one that reads nothing: hybrid

  fairness   16 clients with short requests beside one that keeps a worker computing; and what watching for it costs:
             hybrid with and without that, gunicorn (gevent), uvicorn, granian
  lifecycle  reload, SIGKILL of a worker each second, stop, under load, every answer checked; upgrade, scaling and
             recycling: hybrid; uvicorn, granian, gunicorn (gevent, asgi)
  footprint  memory of all processes of a FastAPI application at four workers: hybrid, uvicorn, gunicorn, granian
  balance    eight long connections over four workers, on TCP and on a UNIX socket: what the most loaded worker has:
             hybrid with and without balancing, uvicorn, gunicorn (asgi), granian
  scale      10,000 idle connections of each kind: memory and processor time; 1 to 128 workers: start, memory,
             descriptors: hybrid, uvicorn, granian

  offload    calls in other processes: round trips, payloads of 1 KiB to 64 MiB, one pool process and two, a light
             endpoint beside one that computes: hybrid.offload, ProcessPoolExecutor, multiprocessing.Pool, loky,
             anyio.to_process, Dask's LocalCluster, gunicorn's dirty workers, gevent's threads

The second and later groups want the peers (pip install -e '.[benchmarks]'); the second group wants wrk, too
(apt-get install wrk).
"""

_EPILOG = """\
examples
  python -m benchmarks                                          everything, several hours
  python -m benchmarks echo --runs 5 --seconds 3                the echo table
  python -m benchmarks echo --only 'hybrid epoll*' --only 'gevent*'
  python -m benchmarks memory boot --runs 3 --json figures.json
  python -m benchmarks wsgi asgi fastapi websocket              every comparison of HTTP servers with small messages
  python -m benchmarks asgi --only 'hybrid epoll' --only uvicorn
  python -m benchmarks offload --only 'calls *'                 round trips of offloaded calls, beside other pools
  python -m benchmarks lifecycle --runs 1 --only 'reload *'     one part of a suite of several workers

how it measures
  The server and all its children run on the first core, the load generator on the second; in the third group all
  share both; in offload the calling process runs on the first core, its pool on the second. Figures are medians over
  the rounds; a ratio is computed in each round between two servers measured in that round, and the median is shown.
  Details, and how to read the tables: benchmarks/README.md. Progress goes to stderr, the tables to stdout.

exit codes
  0  everything was measured       1  a server could not be measured (the reason is printed)
  2  wrong usage, or something is missing here       130  interrupted (no server is left running)
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=_MANUAL,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(_SUITES))
    parser.add_argument("--runs", type=_positive_int, default=5, help="rounds (default 5)")
    parser.add_argument("--seconds", type=_positive, default=3.0, help="length of one measurement (default 3)")
    parser.add_argument(
        "--retries",
        type=_not_negative_int,
        default=2,
        help="times to repeat a measurement that other processes disturbed (default 2; not memory and boot)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only servers whose name matches (as in a shell; repeatable)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures of every round to FILE")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return value


def _positive_int(text: str) -> int:
    return _at_least(1, text)


def _not_negative_int(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
    return value


def _measure(names: list[str], plan: report.Plan) -> dict[str, report.Report]:
    """Run the suites, printing each table as soon as it is there."""
    reports: dict[str, report.Report] = {}
    for name in names:
        reports[name] = _report(name, plan)
        print(f"{reports[name].text}\n", flush=True)
        for server, reason in reports[name].failures.items():
            print(f"FAILED {server}: {reason}", flush=True)
    return reports


def _report(name: str, plan: report.Plan) -> report.Report:
    """Import what this suite needs, and no more; run it."""
    found: report.Report
    if name in _HTTP:
        found = importlib.import_module("benchmarks.web.suite").measure(name, plan)
    else:
        found = importlib.import_module(_MODULES[name]).measure(plan)
    return found


def _write(path: Path, reports: dict[str, report.Report], plan: report.Plan) -> None:
    suites = {name: {"servers": one.data, "failures": one.failures} for name, one in reports.items()}
    content = {"machine": machine.description(), "runs": plan.runs, "seconds": plan.seconds, "suites": suites}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM ends us as Ctrl-C does: through every `with` block, so that no server is left."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Measure what the arguments ask for; return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = [name for name in given.suites if name not in _SUITES]
    if unknown:
        parser.error(f"unknown suite {unknown[0]!r}: use {', '.join(_SUITES)}")
    try:
        importlib.metadata.version("hybrid-runtime")
    except importlib.metadata.PackageNotFoundError:
        parser.error("hybrid is not installed for this Python: pip install -e . first")
    signal.signal(signal.SIGTERM, _interrupt)
    machine.allow_many_files()
    plan = report.Plan(given.runs, given.seconds, given.retries, tuple(given.only))
    print(", ".join(f"{name} {value}" for name, value in machine.description().items()), end="\n\n", flush=True)
    try:
        reports = _measure(given.suites or list(_SUITES), plan)
    except (LookupError, compiler.ToolMissing) as error:
        report.say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        report.say("interrupted; all servers have been ended")
        return 130
    if given.json:
        _write(given.json, reports, plan)
    return 1 if any(one.failures for one in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
