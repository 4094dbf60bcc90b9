"""Every kind of offloaded call, one for each request: the path names it, the query is a number that comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import hybrid

LARGE = 300_000  # bytes: they travel in shared memory
TOO_LARGE = 5_000_000  # bytes: above the limit that `offload_hour` sets
_LONG = 5.0  # seconds; no call runs for so long, as each is ended before


class Stock:
    """An object of the application, which calls close over."""

    def __init__(self) -> None:
        self.factor = 3


STOCK = Stock()


def triple(number: int) -> int:
    return number * 3


def compute(number: int) -> int:
    return sum(i % 7 for i in range(20_000)) + number


def reverse(data: bytes) -> bytes:
    return data[::-1]


def too_large(number: int) -> bytes:
    return bytes(TOO_LARGE)


def fail(number: int) -> None:
    raise LookupError(str(number))


def spin(number: int) -> int:
    """Compute until it is interrupted."""
    end = time.monotonic() + _LONG
    while time.monotonic() < end:
        sum(range(100))
    return number


async def _tripled(number: int) -> str:
    return str(await hybrid.offload(triple, number))


async def _computed(number: int) -> str:
    return str(await hybrid.offload(compute, number))


async def _closed_over(number: int) -> str:
    return str(await hybrid.offload(lambda: number * STOCK.factor))


async def _in_greenlet(number: int) -> str:
    return str(await hybrid.green(lambda: hybrid.offload(triple, number).result()))


async def _in_thread(number: int) -> str:
    return str(await asyncio.to_thread(lambda: hybrid.offload(triple, number).result()))


async def _large(number: int) -> str:
    data = random.Random(number).randbytes(LARGE)
    return str(await hybrid.offload(reverse, data) == data[::-1])


async def _too_large(number: int) -> str:
    return str(await hybrid.offload(too_large, number))


async def _failed(number: int) -> str:
    return str(await hybrid.offload(fail, number))


async def _timed_out(number: int) -> str:
    return str(await hybrid.offload(spin, number, timeout=0.02 + number % 7 / 100))


async def _cancelled(number: int) -> str:
    job = hybrid.offload(spin, number)
    await asyncio.sleep(number % 11 / 300)
    job.cancel()
    return str(await job)


async def _abandoned(number: int) -> str:
    """Cancel the task that awaits a call."""
    task = asyncio.ensure_future(_awaited(hybrid.offload(spin, number)))
    await asyncio.sleep(number % 11 / 300)
    task.cancel()
    try:
        return str(await task)
    except asyncio.CancelledError:
        return "cancelled"


async def _awaited(job: hybrid.Job[int]) -> int:
    return await job


async def _together(number: int) -> str:
    """Make several calls at a time, each with its own outcome."""
    found = await asyncio.gather(*[_words(_tripled, number + i) for i in range(8)])
    return " ".join(found)


async def _again(number: int) -> str:
    """Make a call that is run again if its process dies."""
    return str(await hybrid.offload(compute, number, retries=50))


KINDS: dict[str, tuple[Callable[[int], Awaitable[str]], Callable[[int], str]]] = {  # path -> the call, right answer
    "tripled": (_tripled, lambda number: str(number * 3)),
    "computed": (_computed, lambda number: str(compute(number))),
    "closed_over": (_closed_over, lambda number: str(number * 3)),
    "in_greenlet": (_in_greenlet, lambda number: str(number * 3)),
    "in_thread": (_in_thread, lambda number: str(number * 3)),
    "large": (_large, lambda number: "True"),
    "too_large": (_too_large, lambda number: "OffloadError: too_large: the result has 50000"),
    "failed": (_failed, lambda number: f"LookupError: {number}"),
    "timed_out": (_timed_out, lambda number: "OffloadTimeout: spin has not ended within 0.0"),
    "cancelled": (_cancelled, lambda number: "OffloadCancelled: spin was cancelled"),
    "abandoned": (_abandoned, lambda number: "cancelled"),
    "together": (_together, lambda number: " ".join(str((number + i) * 3) for i in range(8))),
    "again": (_again, lambda number: str(compute(number))),
}


async def _words(call: Callable[[int], Awaitable[str]], number: int) -> str:
    try:
        return await call(number)
    except Exception as error:  # noqa: BLE001 - the client compares it
        return f"{type(error).__name__}: {error}"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the outcome of a call, as an ASGI application."""
    if scope["type"] != "http":
        raise LookupError("none")
    call, _ = KINDS[scope["path"][1:]]
    body = (await _words(call, int(scope["query_string"]))).encode()
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
