"""Sync hooks that note when they are called, and wait as a handler may."""

from __future__ import annotations

import os
from typing import Any

from hook_notes import note

import hybrid

note("hooks")


def zygote_warm() -> None:
    note("zygote_warm")


def after_fork(worker: Any) -> None:
    note(f"after_fork {worker.slot} {worker.pid == os.getpid()}")


def worker_start(worker: Any) -> None:
    hybrid.sleep(0.01)
    note(f"worker_start {worker.slot} {worker.loop}")


def worker_drain(worker: Any) -> None:
    hybrid.sleep(0.01)
    note("worker_drain")


def worker_stop(worker: Any) -> None:
    hybrid.sleep(0.01)
    note("worker_stop")
