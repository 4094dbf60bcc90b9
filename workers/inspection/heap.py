"""Finds the greenlets of this process. No registry has them, so the heap is searched.

Apart from `greenlets`, because every worker imports it: `gc.freeze` hides objects from a search.
"""

from __future__ import annotations

import gc
import itertools
import sys
import weakref

import greenlet

_MAKERS = frozenset(("gevent", "hybrid.workers.green"))  # modules by which applications start greenlets
_frozen: weakref.WeakSet[greenlet.greenlet] = weakref.WeakSet()


def keep_in_view() -> None:
    """Remember the greenlets that there are: `gc.freeze` hides them from a later search. Call it just before.

    Does nothing in a process whose application cannot have started any, so most workers start without a search.
    """
    if not _MAKERS.isdisjoint(sys.modules):
        for one in _on_heap():
            _frozen.add(one)


def _on_heap() -> list[greenlet.greenlet]:
    """Return the greenlets among the objects that the collector knows: 60 ms for each million of them (measured)."""
    objects = gc.get_objects()
    return list(itertools.compress(objects, map(_kinds().__contains__, map(type, objects))))


def _kinds() -> set[type]:
    """Return the class of greenlets and all its subclasses."""
    found: set[type] = set()
    waiting: list[type] = [greenlet.greenlet]
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += type.__subclasses__(kind)
    return found


def all_greenlets() -> list[greenlet.greenlet]:
    """Return all greenlets, also those that have not started, or have ended."""
    return list({id(one): one for one in (*_on_heap(), *_frozen)}.values())
