"""`TreeFields`: the options of a `Service` about its place among several services, and about programs."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hybrid.config.checks import ConfigError
from hybrid.config.companions import Companion, why_not_together
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Choice, CommandLine, Companions, Text
from hybrid.config.targets import DEMONSTRATION

if TYPE_CHECKING:
    from hybrid.config.service import Service

RESTARTS: Final = ("permanent", "transient", "temporary")
ON_FAILURE: Final = ("stop-all", "stop")
_SERVICES: Final = Section.SERVICES


def _why_no_signal(name: object) -> str | None:
    try:
        signal_number(str(name))
    except ValueError:
        return f"{name!r}: use the name of a signal that can be caught, e.g. 'TERM', 'INT' or 'QUIT'"
    return None


def _why_no_names(names: object) -> str | None:
    given: Sequence[object] = (names,) if isinstance(names, str) else tuple(names)  # type: ignore[arg-type]
    strange = [name for name in given if not isinstance(name, str) or not name]
    return f"{strange[0]!r}: give names of services" if strange else None


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class TreeFields:
    """Several services under one supervisor."""

    command: Sequence[str] | str | None = option(
        None,
        CommandLine(),
        _SERVICES,
        "Run this program instead of a TARGET, e.g. a task queue; no shell expands it. It gets --stop-signal at "
        "a stop, and its output becomes lines of the log. --workers is the number of its processes (auto: 1).",
    )
    stop_signal: str = option(
        "TERM",
        Text("SIGNAL"),
        _SERVICES,
        "Signal that asks the program of --command to end; SIGKILL follows after --graceful-timeout.",
        check=_why_no_signal,
    )
    companions: Sequence[Companion] = option(
        (),
        Companions(),
        _SERVICES,
        "Run a function of the application beside the workers, in N processes of its own (1 without *N), e.g. "
        "mailer=shop.mail:run*2: a queue consumer or a scheduler, def or async def, without parameters. It is forked "
        "from the zygote and restarted as workers are. May be repeated; in a file a table, companion.NAME.",
        name="companion",
        is_repeated=True,
        shown="none",
        check=why_not_together,
    )
    depends: str | Sequence[str] = option(
        (),
        Text("SERVICE"),
        _SERVICES,
        "Start after this service has started, and stop before it. May be repeated.",
        is_repeated=True,
        check=_why_no_names,
    )
    restart: str = option(
        "permanent",
        Choice(RESTARTS),
        _SERVICES,
        "When a worker that has ended is replaced. permanent: always; transient: unless its exit code is 0; temporary: "
        "never. A service ends when none of its workers is left to replace.",
    )
    on_failure: str = option(
        "stop-all",
        Choice(ON_FAILURE),
        _SERVICES,
        "What happens to the other services if this one cannot start or exceeds --max-restarts. stop-all: they stop, "
        "and so does the supervisor; stop: they go on.",
    )


def check_tree(service: Service) -> None:
    """Check the options together. Raises `ConfigError`."""
    if service.command is None:
        if service.stop_signal != "TERM":
            raise ConfigError("stop_signal", "it is for programs: give --command too")
    elif service.companions:
        raise ConfigError("companions", "they run functions of a TARGET's application, and a command has none")
    elif service.target != DEMONSTRATION:
        raise ConfigError("command", f"a service is a TARGET or a command, not both; TARGET is {service.target!r}")


def signal_number(name: str) -> int:
    """Return the number of a signal: `TERM`, `SIGTERM` or `15`. Raises `ValueError`."""
    if name.isascii() and name.isdigit():
        found: signal.Signals | None = signal.Signals(int(name))
    else:
        members = signal.Signals.__members__
        found = members.get(name.upper()) or members.get(f"SIG{name.upper()}")
    if found in (None, signal.SIGKILL, signal.SIGSTOP):
        raise ValueError(name)
    return int(found)
