"""Pools of offload workers: calls of `hybrid.offload` go to one of them by its name.

--offload ml=1,timeout=30s

[service.web.offload.ml]
workers = 1
timeout = "30s"

What a pool does not say is as the service has it: `timeout` is `offload_timeout`, and so on. Only the number of workers
is the pool's own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from hybrid.config.checks import ConfigError
from hybrid.config.companions import RESERVED, TableError
from hybrid.config.declaring import Option, Section, declared, option
from hybrid.config.kinds import OffloadWorkers, Parsed, Switch
from hybrid.config.offload import OffloadFields

if TYPE_CHECKING:
    from hybrid.config.service import Service

MOST_NAMES: Final = 7
"""The maximum of names in one service: a record of the scoreboard has room for one more, of calls that name none."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PREFIX: Final = "offload_"
_FORM: Final = "write NAME, NAME=WORKERS or NAME=WORKERS,KEY=VALUE, e.g. ml=1,timeout=30s"


def _declared() -> dict[str, Option]:
    """Return the declarations of the options that a pool may have: key -> the option of the service."""
    found = {one.field.removeprefix(_PREFIX): one for one in declared(OffloadFields)}
    found["workers"] = dataclasses.replace(found["workers"], default=1, kind=OffloadWorkers(1))
    return {field.name: found[field.name] for field in dataclasses.fields(OffloadPool) if field.name != "name"}


@dataclasses.dataclass(frozen=True)
class OffloadPool:
    """A pool of offload workers with a name of its own. None: as the service has it. Raises `ConfigError`."""

    name: str
    """Up to 32 letters, digits, dots, dashes and underscores."""
    _: dataclasses.KW_ONLY
    workers: int | str = 1
    """The number of processes, 1 to 64; 1 for calls that share one expensive thing, such as a model. Or `auto`."""
    at_start: bool | None = None
    timeout: float | None = None
    """Seconds."""
    queue: int | None = None
    max_result: int | None = None
    """Bytes, as `max_memory`."""
    max_tasks: int | None = None
    max_memory: int | None = None
    nice: int | None = None

    def __post_init__(self) -> None:
        if (reason := _why_no_name(self.name)) is not None:
            raise ConfigError("offload_pools", reason)
        for key, one in _declared().items():
            value = getattr(self, key)
            if (reason := None if value is None and key != "workers" else one.complaint(value)) is not None:
                raise ConfigError("offload_pools", f"pool {self.name}: {key}: {reason}")

    def within(self, service: Service) -> OffloadPool:
        """Return the pool with the values of a service in place of those that it does not have."""
        given = {key: getattr(service, f"{_PREFIX}{key}") for key in _declared() if getattr(self, key) is None}
        return dataclasses.replace(self, **given)


def _why_no_name(name: object) -> str | None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        return f"{name!r}: use up to 32 letters, digits, dots, dashes and underscores as the name of a pool"
    return f"{name!r}: this is the name of the {RESERVED[name]}; choose another" if name in RESERVED else None


def read_pool(text: str) -> OffloadPool:
    """Return the pool that `ml=1,timeout=30s` means. Raises `ValueError`."""
    head, *more = (part.strip() for part in text.split(","))
    name, has_workers, workers = (part.strip() for part in head.partition("="))
    given = [("workers", workers)] if has_workers else []
    for part in more:
        key, is_pair, value = (piece.strip() for piece in part.partition("="))
        if not is_pair:
            raise ValueError(f"{text!r} is not a pool of offload workers: {_FORM}")
        given.append((key, value))
    try:
        return OffloadPool(name, **{key: _parsed(name, key, value) for key, value in given})
    except ConfigError as error:
        raise ValueError(error.reason) from None


def _parsed(name: str, key: str, text: str) -> Any:
    kind = _option(name, key).kind
    if isinstance(kind, Switch):
        return {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(kind, Parsed):
        return kind.parse(text)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _option(name: str, key: str) -> Option:
    known = _declared()
    if key not in known:
        raise ValueError(f"unknown key {key!r} of the pool {name}: it has {', '.join(known)}")
    return known[key]


def pool_text(pool: OffloadPool) -> str:
    """Return a pool as a person types it."""
    parts = [f"{pool.name}={pool.workers}"]
    for key, one in _declared().items():
        value = getattr(pool, key)
        if key != "workers" and value is not None:
            parts.append(f"{key}={str(value).lower() if isinstance(value, bool) else one.kind.text(value)}")
    return ",".join(parts)


def pools_of(tables: Mapping[str, Any], convert: Callable[[Option, object], object]) -> tuple[OffloadPool, ...]:
    """Return the pools of the tables `offload.NAME` of a file. Raises `TableError`.

    `convert` returns the value of an option that a value of the file means, or raises `ValueError`.
    """
    return tuple(_of_table(name, table, convert) for name, table in tables.items())


def _of_table(name: str, table: object, convert: Callable[[Option, object], object]) -> OffloadPool:
    if (reason := _why_no_name(name)) is not None:
        raise TableError((name,), reason)
    if not isinstance(table, dict):
        raise TableError((name,), f"offload.{name} is a table: write [service.NAME.offload.{name}]")
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            found = _option(name, key)
            values[key] = convert(found, value)
            reason = found.complaint(values[key])
        except ValueError as error:
            reason = str(error)
        if reason is not None:
            raise TableError((name, key), reason if reason.startswith("unknown") else f"{key}: {reason}")
    return OffloadPool(name, **values)


def _why_not_together(pools: object) -> str | None:
    """Return why several pools cannot be those of one service; None if they can."""
    if not isinstance(pools, tuple | list):
        return f"{pools!r}: give a list of OffloadPool(name)"
    names = [one.name for one in pools if isinstance(one, OffloadPool)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"two pools are called {twice!r}: give each a name of its own"
    return f"{len(names)} pools: use at most {MOST_NAMES} names" if len(names) > MOST_NAMES else None


class Pools(Parsed):
    """A pool of offload workers."""

    metavar = "NAME[=N][,KEY=VALUE]"

    def complaint(self, value: object) -> str | None:
        """Only an `OffloadPool` is allowed, which checks its fields itself."""
        is_pool = isinstance(value, OffloadPool)
        return None if is_pool else f"{value!r}: give OffloadPool(name), or name=workers as text"

    def parse(self, text: str) -> OffloadPool:
        """Return the pool."""
        return read_pool(text)

    def text(self, value: object) -> object:
        """Return it as a person types it."""
        return pool_text(value) if isinstance(value, OffloadPool) else value


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class PoolFields:
    """Pools of offload workers beside the one that the other options of `Section.OFFLOAD` describe."""

    offload_pools: Sequence[OffloadPool] = option(
        (),
        Pools(),
        Section.OFFLOAD,
        "Run the calls of hybrid.offload that say pool=NAME in N processes of their own (1 without =N), e.g. ml=2: "
        "calls for one expensive model, or slow ones that must not delay the others. Further keys are those of the "
        "options here, without offload: ml=2,timeout=30s,max_memory=2G; a key that is left out is as its option says. "
        "May be repeated; in a file a table, offload.NAME.",
        name="offload",
        is_repeated=True,
        shown="none",
        check=_why_not_together,
    )


def check_pools(service: Service) -> None:
    """Check that no pool has the name of a companion. Raises `ConfigError`."""
    companions = {one.name for one in service.companions}
    for pool in service.offload_pools:
        if pool.name in companions:
            raise ConfigError("offload_pools", f"{pool.name!r} is the name of a companion: choose another")
