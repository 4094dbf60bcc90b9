"""`HookFields`: the options of a `Service` about hooks of the application, and a program for events."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from hybrid.config.checks import DAY
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import CommandLine, Seconds, Text

_HOOKS: Final = Section.HOOKS
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def _why_no_module(name: object) -> str | None:
    if isinstance(name, str) and _MODULE.fullmatch(name):
        return None
    return f"{name!r}: give the name of a module, e.g. 'shop.hooks'"


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class HookFields:
    """Code and programs that are run when something happens."""

    hooks: str | None = option(
        None,
        Text("MODULE"),
        _HOOKS,
        "Import this module before TARGET. Its functions zygote_warm, after_fork, worker_start, worker_drain, "
        "worker_stop and ready_check are called at these moments, and so are those that it registers with hybrid.on.",
        check=_why_no_module,
    )
    ready_check_interval: float = option(
        5.0,
        Seconds(0.1, DAY),
        _HOOKS,
        "Pause between two calls of the hook ready_check, by which the application says whether it is ready.",
    )
    on_event: Sequence[str] | str | None = option(
        None,
        CommandLine(),
        _HOOKS,
        "Run this program for each event (a death, a reload, a stall, ...), with the event as a JSON object on its "
        "standard input: one at a time, for at most 10 seconds; no shell expands it. Its output becomes lines of the "
        "log.",
    )
