"""Calls the hooks that run before a worker has a loop."""

from __future__ import annotations

import inspect

from hybrid.workers.common.errors import BootError
from hybrid.workers.common.failures import in_words
from hybrid.workers.contract.exits import Exit
from hybrid.workers.hooks import registry
from hybrid.workers.hooks.registry import Hook, name_of
from hybrid.workers.identity import Identity


def call(hook: Hook, worker: Identity | None = None) -> None:
    """Call the functions of a hook, with the worker if there is one. Runs code of the application; may block.

    Raises `BootError` (TARGET) with the text and the line of the first that fails.
    """
    arguments = () if worker is None else (worker,)
    for function in registry.functions(hook):
        try:
            value = function(*arguments)
            if inspect.iscoroutine(value):
                value.close()
                raise TypeError("it returned a coroutine, and there is no loop yet to run it")
        except BaseException as error:  # noqa: BLE001 - any code may run, and raise SystemExit or similar
            what = f"the hook {hook.value} failed: {name_of(function)}"
            raise BootError(Exit.TARGET, in_words(what, error)) from None
