"""The servers of these suites, each with several workers."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import report, servers
from benchmarks.servers import Command
from benchmarks.web import peers

WORKERS = 2
WSGI = "benchmarks.applications.mixed:wsgi"
ASGI = "benchmarks.applications.mixed:asgi"
OURS = (("epoll", "wsgi"), ("epoll", "asgi"), ("uvloop", "asgi"), ("gevent", "wsgi"))


def hybrid(*options: str, suffix: str = "", workers: int = WORKERS) -> list[Command]:
    """Return hybrid on the loops that are compared, with both interfaces."""
    return [
        servers.hybrid(
            f"hybrid {loop} {interface}{suffix}",
            WSGI if interface == "wsgi" else ASGI,
            loop=loop,
            workers=workers,
            options=("--interface", interface, *options),
        )
        for loop, interface in OURS
    ]


def gunicorn_gevent() -> Command:
    """Return gunicorn with greenlets."""
    return peers.gunicorn("gunicorn gevent", WSGI, "gevent", workers=WORKERS)


def gunicorn_asgi() -> Command:
    """Return gunicorn with its ASGI worker."""
    return peers.gunicorn("gunicorn asgi", ASGI, "asgi", workers=WORKERS)


def uvicorn() -> Command:
    """Return uvicorn; its supervisor listens, and its workers share the one queue."""
    return peers.uvicorn("uvicorn", ASGI, "--workers", str(WORKERS))


def granian(*options: str) -> list[Command]:
    """Return granian with both interfaces."""
    return [
        peers.granian("granian wsgi", WSGI, "wsgi", *options, workers=WORKERS),
        peers.granian("granian asgi", ASGI, "asgi", *options, workers=WORKERS),
    ]


def wanted(plan: report.Plan, part: str, commands: Iterable[Command]) -> list[Command]:
    """Return the servers that the plan wants in a part of a suite: `uvicorn`, or `reload uvicorn` in this part only."""
    return [one for one in commands if plan.wants(one.name) or plan.wants(f"{part} {one.name}")]


def some(plan: report.Plan, found: Iterable[object]) -> None:
    """Raise `LookupError` if the plan wants nothing of a suite."""
    if not list(found):
        raise LookupError(f"no server matches --only {' '.join(plan.only)}")
