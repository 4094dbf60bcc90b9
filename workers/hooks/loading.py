"""Imports the module of `--hooks`, and registers the functions that are called like a hook."""

from __future__ import annotations

import importlib
import logging

from hybrid.workers.common.errors import BootError
from hybrid.workers.common.failures import in_words
from hybrid.workers.contract.exits import Exit
from hybrid.workers.hooks import registry
from hybrid.workers.hooks.registry import Hook

_log = logging.getLogger("hybrid")


def load(name: str) -> None:
    """Import the module `name`, whose decorated functions register themselves, and register those named like a hook.

    Runs code of the application. Raises `BootError` (TARGET) with the cause and its place. A module without any hook is
    a line in the log.
    """
    before = registry.count()
    try:
        module = importlib.import_module(name)
        for hook in Hook:
            function = getattr(module, hook.value, None)
            if function is not None:
                registry.on(hook.value, function)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            reason = f"there is no module {error.name!r} on the path: start in its directory or give --chdir"
            raise BootError(Exit.TARGET, f"cannot import the hooks {name!r}: {reason}") from None
        raise BootError(Exit.TARGET, in_words(f"cannot import the hooks {name!r}", error)) from None
    except BaseException as error:  # noqa: BLE001 - any code may run at import, and raise SystemExit or similar
        raise BootError(Exit.TARGET, in_words(f"cannot import the hooks {name!r}", error)) from None
    if registry.count() == before:
        known = ", ".join(hook.value for hook in Hook)
        _log.warning("--hooks %s has no effect: it has no function called %s, and registers none", name, known)
