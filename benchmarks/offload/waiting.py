"""Measures calls in coroutines, which await them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from benchmarks.offload import work
from benchmarks.offload.task import Answer, Task, answer, check

Call = Callable[..., Awaitable[Any]]


async def measure(task: Task, call: Call) -> Answer:
    """Do what a task asks for; an error becomes the answer."""
    try:
        await _pin(task, call)
        before = await _calls(task, call, task.warm_up, 1)
        found = await _calls(task, call, task.seconds, task.at_least)
        return dataclasses.replace(found, warm_up_calls=before.calls)
    except Exception as error:  # noqa: BLE001 - whatever a pool raises
        return Answer(error=f"{type(error).__name__}: {error}")


async def _pin(task: Task, call: Call) -> None:
    if task.caller is not None:
        work.pin_caller(task.caller)
    for tries in itertools.count(1):
        if work.are_apart(await asyncio.gather(*[_awaited(call, work.pin, core) for core in task.pool]), tries):
            break


async def _awaited(call: Call, *arguments: Any) -> Any:
    return await call(*arguments)


async def _calls(task: Task, call: Call, seconds: float, at_least: int) -> Answer:
    """Let `task.outstanding` coroutines make one call after another."""
    arguments = task.call()
    durations: list[float] = []
    began = perf_counter()

    async def one_after_another() -> None:
        while True:
            sent = perf_counter()
            result = await call(*arguments)
            now = perf_counter()
            durations.append(now - sent)
            check(task, result)
            if now - began >= seconds and len(durations) >= at_least:
                return

    await asyncio.gather(*[one_after_another() for _ in range(task.outstanding)])
    return answer(durations, perf_counter() - began)
