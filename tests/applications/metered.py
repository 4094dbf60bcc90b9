"""An ASGI application with metrics of every kind: `/` counts, `/forked` has a fork count, `/broken` spoils a file."""

import asyncio
import os
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

DONE = Counter("shop_done", "Requests.", ["path"])
HERE = Gauge("shop_here", "Workers that have served.", multiprocess_mode="livesum")
MOST = Gauge("shop_most", "The largest number asked for.", multiprocess_mode="max")
TOOK = Histogram("shop_took_seconds", "Durations.", buckets=(1, 2))


def count(path: str) -> None:
    DONE.labels(path).inc()
    HERE.set(1)
    TOOK.observe(1.5)


def count_in_fork() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            DONE.labels("/fork").inc()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/forked":
        count_in_fork()
    if scope["path"] == "/broken":
        Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], "counter_broken.db").write_bytes(
            b"\x40" + b"\0" * 7 + b"\xff" * 92
        )
    if scope["query_string"]:
        MOST.set(max(MOST._value.get(), int(scope["query_string"])))
    count(scope["path"])
    text = f"{os.getpid()} {os.environ.get('PROMETHEUS_MULTIPROC_DIR', '-')}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def mailer():
    DONE.labels("/mail").inc()
    await asyncio.Event().wait()
