"""The three system calls `select`, `poll` and `epoll`, behind one contract.

    contract       the seven clauses that every poller keeps, and the event bits
    select         select(2): any Unix, at most 1,024 descriptors
    poll           poll(2): no limit, cost grows with the number watched
    epoll          epoll(7): cost grows with the number *ready*
    registrations  the registered descriptors of a selector, for the hub's and gevent's

Pollers have no policy: the hub decides which callbacks run, in which order, and how long to wait.
"""

from __future__ import annotations

import importlib

from hybrid.workers.pollers.contract import ERROR, HANGUP, READ, WRITE, Poller

NAMES = ("select", "poll", "epoll")

__all__ = ["ERROR", "HANGUP", "NAMES", "READ", "WRITE", "Poller", "open_poller"]


def open_poller(name: str = "epoll") -> Poller:
    """Return a new poller of the kind `name` (`select`, `poll` or `epoll`).

    Raises `ValueError` for another name, `OSError` (EMFILE, ENFILE, ENOMEM) if the system call fails, and
    `AttributeError` if this Python was built without it.
    """
    if name not in NAMES:
        raise ValueError(f"unknown poller {name!r}: use one of {', '.join(NAMES)}")
    module = importlib.import_module(f"hybrid.workers.pollers.{name}")
    poller: Poller = module.Poller()
    return poller
