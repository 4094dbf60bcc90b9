"""Measures calls in code that blocks: a thread, or a greenlet, in which `result` waits."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from benchmarks.offload import work
from benchmarks.offload.task import Answer, Task, answer, check


class Handle(Protocol):
    """A call on its way."""

    def result(self) -> Any:
        """Wait for the end; return the result, or raise."""


Submit = Callable[..., Handle]


def measure(task: Task, submit: Submit) -> Answer:
    """Do what a task asks for. Blocks; an error becomes the answer."""
    try:
        _pin(task, submit)
        before = _calls(task, submit, task.warm_up, 1)
        found = _calls(task, submit, task.seconds, task.at_least)
        return dataclasses.replace(found, warm_up_calls=before.calls)
    except Exception as error:  # noqa: BLE001 - whatever a pool raises
        return Answer(error=f"{type(error).__name__}: {error}")


def _pin(task: Task, submit: Submit) -> None:
    if task.caller is not None:
        work.pin_caller(task.caller)
    for tries in itertools.count(1):
        handles = [submit(work.pin, core) for core in task.pool]
        if work.are_apart([handle.result() for handle in handles], tries):
            break


def _calls(task: Task, submit: Submit, seconds: float, at_least: int) -> Answer:
    """Keep `task.outstanding` calls outstanding; wait for the oldest, as its successors wait in order too."""
    call = task.call()
    began = perf_counter()
    window = collections.deque((perf_counter(), submit(*call)) for _ in range(task.outstanding))
    durations: list[float] = []
    while True:
        sent, handle = window.popleft()
        result = handle.result()
        now = perf_counter()
        durations.append(now - sent)
        check(task, result)
        if now - began >= seconds and len(durations) >= at_least:
            break
        window.append((perf_counter(), submit(*call)))
    found = answer(durations, now - began)
    for _, handle in window:
        handle.result()
    return found
