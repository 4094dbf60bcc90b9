"""`OffloadFields`: the options of a `Service` about calls that leave its workers."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hybrid.config.checks import DAY, ConfigError
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Bytes, Choice, Count, OffloadWorkers, Seconds, Switch, Text

if TYPE_CHECKING:
    from hybrid.config.service import Service

_OFFLOAD: Final = Section.OFFLOAD
_SCHEDULER: Final = re.compile(r"(?:tcp|tls|ws|wss|ucx)://(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]@]+):(\d{1,5})")


def _why_no_scheduler(address: object) -> str | None:
    found = _SCHEDULER.fullmatch(address) if isinstance(address, str) else None
    is_address = found is not None and 0 < int(found[1]) < 65536
    return None if is_address else f"{address!r}: give the address of a Dask scheduler, e.g. tcp://scheduler:8786"


def check_offload(service: Service) -> None:
    """Check the options that depend on each other. Raises `ConfigError`."""
    if service.offload_to is None or service.command is not None:
        return
    if service.offload_fallback == "local" and service.offload_workers == 0:
        raise ConfigError("offload_fallback", "'local' needs offload workers, and there are none: use 'fail'")


def check_dask(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Check that Dask is installed, without importing it; `find` looks for a module. Raises `ConfigError`."""
    if find("distributed") is None:
        raise ConfigError("offload_to", "this needs Dask: pip install 'hybrid-runtime[dask]'")


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class OffloadFields:
    """Calls that `hybrid.offload` runs in other processes."""

    offload_workers: int | str = option(
        "auto",
        OffloadWorkers(),
        _OFFLOAD,
        "Number of processes that run the calls of hybrid.offload. They start with the first call, as forks of the "
        "process that imported TARGET. auto: one less than usable cores, at least 1. 0: hybrid.offload runs calls as "
        "it does outside of a service, in a process for each.",
    )
    offload_at_start: bool = option(
        False, Switch(), _OFFLOAD, "Start the offload workers with the service, not with its first call."
    )
    offload_timeout: float = option(
        0.0,
        Seconds(0, 365 * DAY),
        _OFFLOAD,
        "End a call after this time, unless it has a timeout of its own; the time that it waits counts. 0: never.",
    )
    offload_queue: int = option(
        1024,
        Count(1, 10**6),
        _OFFLOAD,
        "Number of calls that may wait in one worker. Then greenlets and threads wait before they add another, and "
        "calls with wait=False are refused.",
    )
    offload_max_result: int = option(
        0, Bytes(0, 2**50), _OFFLOAD, "Refuse a result larger than this: the call fails with OffloadError. 0: no limit."
    )
    offload_max_tasks: int = option(
        0, Count(0, 10**12), _OFFLOAD, "Replace an offload worker that has run this many calls. 0: never."
    )
    offload_max_memory: int = option(
        0,
        Bytes(0, 2**50),
        _OFFLOAD,
        "Replace an offload worker that uses this much resident memory after a call. 0: never.",
    )
    offload_nice: int = option(
        5,
        Count(0, 19),
        _OFFLOAD,
        "How much lower the priority of offload workers is than that of workers, as nice(2) counts: busy offload "
        "workers then leave the cores to the loops.",
    )
    offload_to: str | None = option(
        None,
        Text("URL"),
        _OFFLOAD,
        "Run the calls of hybrid.offload on a Dask cluster: the address of its scheduler, e.g. tcp://scheduler:8786. A "
        "process called dask/0 passes them on; there are no offload workers then. Needs pip install "
        "'hybrid-runtime[dask]'.",
        check=_why_no_scheduler,
    )
    offload_fallback: str = option(
        "fail",
        Choice(("fail", "local")),
        _OFFLOAD,
        "What happens to calls while that scheduler cannot be reached. fail: they fail at once with OffloadError. "
        "local: offload workers run them; these start when the connection is lost, and stay until the next reload.",
    )
