"""Which service depends on which: checked once, and used for the order of start and stop. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Depends = Mapping[str, Collection[str]]
"""Service -> the services that it depends on."""


def complaint(depends: Depends) -> tuple[str, str] | None:
    """Return a service and why its dependencies are impossible; None if all are fine."""
    for name, wanted in depends.items():
        for other in wanted:
            if other not in depends:
                return name, f"{other!r}: no such service is to run; to run are: {', '.join(depends)}"
    circle = _circle(depends)
    if circle is None:
        return None
    way = " -> ".join((*circle, circle[0]))
    return circle[0], f"services depend on each other in a circle: {way}"


def _circle(depends: Depends) -> tuple[str, ...] | None:
    """Return services of which each depends on the next, and the last on the first; None if there are none."""
    fine: set[str] = set()
    for start in depends:
        way: list[str] = []
        if (found := _search(depends, start, way, fine)) is not None:
            return found
    return None


def _search(depends: Depends, name: str, way: list[str], fine: set[str]) -> tuple[str, ...] | None:
    if name in way:
        return tuple(way[way.index(name) :])
    if name in fine:
        return None
    way.append(name)
    for other in depends[name]:
        if (found := _search(depends, other, way, fine)) is not None:
            return found
    fine.add(way.pop())
    return None


def dependents(depends: Depends, name: str) -> tuple[str, ...]:
    """Return the services that depend on `name` themselves."""
    return tuple(other for other, wanted in depends.items() if name in wanted)
