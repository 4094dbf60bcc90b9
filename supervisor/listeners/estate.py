"""The sockets of all services: what a successor takes over, and what a predecessor left."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.sockets import Listeners, Offered, open_listeners

if TYPE_CHECKING:
    from hybrid.supervisor.settings import Settings
    from hybrid.supervisor.upgrade.inheritance import Inheritance


class Estate:
    """The listeners of each service. As a context manager it closes them all."""

    def __init__(self) -> None:
        """Begin without any."""
        self._listeners: dict[str, Listeners] = {}  # service -> its sockets, in the order of the configuration

    def __enter__(self) -> Estate:
        return self

    def __exit__(self, *_: object) -> None:
        for name in tuple(self._listeners):
            self.close(name)

    def __getitem__(self, service: str) -> Listeners:
        return self._listeners[service]

    def __iter__(self) -> Iterator[tuple[str, Listeners]]:
        return iter(tuple(self._listeners.items()))

    def enter(self, service: str, listeners: Listeners) -> None:
        """Add sockets that are open already."""
        self._listeners[service] = listeners

    def open(self, settings: Settings, inheritance: Inheritance | None = None) -> Listeners:
        """Open the sockets of a service, or take them from `inheritance`. Raises `BindError`; then none is left open.

        Blocks as `Listeners` says.
        """
        share = None if inheritance is None else inheritance.share(settings.service, settings.binds)
        self._listeners[settings.service] = opened = open_listeners(settings, share)
        return opened

    def close(self, service: str) -> None:
        """Close the sockets of a service; no effect if it has none."""
        listeners = self._listeners.pop(service, None)
        if listeners is not None:
            listeners.close()

    # --- for a successor

    def offer(self) -> tuple[Offered, ...]:
        """Return all sockets, service by service."""
        return tuple(
            dataclasses.replace(entry, service=name) for name, one in self._listeners.items() for entry in one.offer()
        )

    def reserve(self, service: str, slots: int) -> None:
        """Open sockets for a successor with more workers of a service; they get no connections here.

        Raises `BindError`; opened sockets stay for the next successor.
        """
        if service and service not in self._listeners:
            raise BindError(f"there is no service {service!r}")
        for name, listeners in self._listeners.items():
            if service in ("", name):  # an older version has only one
                listeners.reserve(slots)

    def lend(self, taken: Collection[int]) -> None:
        """Leave the offered addresses at these indexes to a successor."""
        begin = 0
        for listeners in self._listeners.values():
            count = len(listeners.offer())
            listeners.lend([index - begin for index in taken if begin <= index < begin + count])
            begin += count

    def leave(self) -> None:
        """Close the descriptors of lent sockets, and nothing else."""
        for listeners in self._listeners.values():
            listeners.leave()

    # --- of a predecessor

    def take_over(self) -> tuple[str, ...]:
        """Own the sockets of a predecessor, or those that a failed successor returns; return problems for the log."""
        return tuple(remark for listeners in self._listeners.values() for remark in listeners.take_over())
