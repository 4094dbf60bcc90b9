"""Hooks that fail or hang: FAILS names the hook."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hook_notes import note

import hybrid

KIND, _, NAME = os.environ["FAILS"].partition(" ")


def fail(*_: Any) -> None:
    raise LookupError("no such table")


async def fail_async(worker: Any) -> None:
    raise LookupError("no such table")


async def hang_async(worker: Any) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        note("cancelled")


def hang(worker: Any) -> None:
    try:
        hybrid.sleep(3600)
    finally:
        note("cancelled")


def block(worker: Any) -> None:
    os.read(os.pipe()[0], 1)  # gevent does not patch that, and nobody writes


def leave(worker: Any) -> None:
    raise SystemExit(5)


hybrid.on(NAME, globals()[KIND])
