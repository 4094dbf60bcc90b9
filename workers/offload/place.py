"""Where this process stands: what `hybrid.offload` does here. Imported early; imports nothing that is rarely needed."""

from __future__ import annotations

import asyncio
import enum
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hybrid.workers.contract.messages import CallDied, Message
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import Record
from hybrid.workers.offload.settings import OffloadSettings, PoolSettings

if TYPE_CHECKING:
    from hybrid.workers.offload.desk import Desk


class Standing(enum.Enum):
    """What kind of process this is."""

    ALONE = "alone"
    """It belongs to no service that offloads: a script, a test, a companion without a loop."""
    SERVES = "serves"
    """It is a worker, or a companion, with a loop: its calls go to the offload workers."""
    INSIDE = "inside"
    """It is an offload worker, or runs a call of one: a call within it is made at once, in this process."""


@record(frozen=True, slots=True)
class Service:
    """What a process that serves must know to offload calls."""

    loop: asyncio.AbstractEventLoop
    address: Callable[[str], bytes]
    """Returns where calls of its generation are queued for a pool."""
    tell: Callable[[Message], object]
    """Sends a message to the supervisor; call it on the loop's thread."""
    record: Record
    settings: OffloadSettings
    keys: Iterator[int]
    """Names for the calls of this process; the upper half of each is its pid."""

    def pool(self, name: str) -> PoolSettings | None:
        """Return the pool of a name; None if calls to it run in a process each."""
        number = self.settings.number_of(name)
        return None if number is None else self.settings.pools[number]


_service: Service | None = None
_desks: dict[str, Desk] = {}  # pool -> where its calls are sent from
_inside = False  # this process is an offload worker, or was forked by one
_names: tuple[str, ...] | None = None  # of the pools of the service; None: this process belongs to none


def serves(
    loop: asyncio.AbstractEventLoop,
    address: Callable[[str], bytes],
    tell: Callable[[Message], object],
    record: Record,
    settings: OffloadSettings,
) -> None:
    """Let this process serve: its calls go to the offload workers. The arguments are the fields of `Service`."""
    global _service, _inside
    _inside = False
    _service = Service(loop, address, tell, record, settings, itertools.count(os.getpid() << 32))
    knows(settings)


def is_inside() -> None:
    """Let this process be an offload worker: a call within a call is made at once."""
    global _service, _inside
    _service, _inside = None, True


def knows(settings: OffloadSettings) -> None:
    """Remember the names of the pools of the service to which this process belongs."""
    global _names
    _names = settings.names


def leaves() -> None:
    """End the calls of this process: it does not serve any more."""
    global _service
    desks, _service = list(_desks.values()), None
    _desks.clear()
    for desk in desks:
        desk.close()


def abandon() -> None:
    """Forget the service, in a process that a handler has forked: it must not act for the worker."""
    global _service
    _service = None
    _desks.clear()


def hear(message: CallDied) -> None:
    """The supervisor tells how the process of a call has died."""
    for desk in list(_desks.values()):
        desk.hear(message)


def check_pool(name: object) -> None:
    """Check that the service has a pool of this name; outside of a service any text will do. Raises `ValueError`."""
    if not isinstance(name, str):
        raise ValueError(f"pool: {name!r}: give the name of a pool of offload workers")
    if _names is not None and name not in _names:
        raise ValueError(f"pool: {name!r}: this service has {' and '.join(_listed(_names))}")


def _listed(names: Sequence[str]) -> tuple[str, ...]:
    return (", ".join(names[:-1]), names[-1]) if len(names) > 2 else tuple(names)


def standing() -> Standing:
    """Return what kind of process this is."""
    if _inside:
        return Standing.INSIDE
    return Standing.ALONE if _service is None else Standing.SERVES


def service() -> Service:
    """Return what is known of the service. Call it only in a process that serves."""
    assert _service is not None, "it serves"
    return _service


def pool(name: str) -> PoolSettings | None:
    """Return the pool of a name if this process serves and calls to it leave for offload workers; otherwise None."""
    return None if _service is None else _service.pool(name)


def desk(name: str) -> Desk:
    """Return the desk for calls to a pool; makes it at the first call. Call it only in a process that serves."""
    if name not in _desks:
        from hybrid.workers.offload.desk import Desk  # most services never offload

        found = service()
        number = found.settings.number_of(name)
        assert number is not None, "it was looked for"
        record, limits = found.record.calls_to(number), found.settings.pools[number]
        _desks[name] = Desk(found.loop, found.address(name), found.tell, record, limits, found.keys)
    return _desks[name]


def is_on_loop() -> bool:
    """Return True in the thread of the service's loop, in any greenlet."""
    from hybrid.workers import runtime

    try:
        current: Any = runtime.current()
    except RuntimeError:
        return False
    return current.loop is service().loop
