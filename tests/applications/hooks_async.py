"""Async hooks that note when they are called."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hook_notes import note

import hybrid

note("hooks")


@hybrid.on("zygote_warm")
def warm() -> None:
    note("zygote_warm")


@hybrid.on("after_fork")
def forked(worker: Any) -> None:
    note(f"after_fork {worker.slot} {worker.pid == os.getpid()}")


@hybrid.on("worker_start")
async def start(worker: Any) -> None:
    await asyncio.sleep(0.01)
    note(f"worker_start {worker.slot} {worker.loop}")


@hybrid.on("worker_drain")
async def drain(worker: Any) -> None:
    await asyncio.sleep(0.01)
    note("worker_drain")


@hybrid.on("worker_stop")
async def stop(worker: Any) -> None:
    await asyncio.sleep(0.01)
    note("worker_stop")
