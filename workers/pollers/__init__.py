"""The three system calls `select`, `poll` and `epoll`, behind one contract.

    contract   the seven clauses every poller keeps, and the bits they speak
    select     select(2): any Unix, at most 1,024 descriptors
    poll       poll(2): no limit, cost grows with the number watched
    epoll      epoll(7): cost grows with the number *ready*
    registrations  who registered which descriptor, for the hub's selector and gevent's

No policy lives here: who is called back, in which order, and for how long to wait is the hub's business.
"""

from __future__ import annotations

import importlib

from hybrid.workers.pollers.contract import ERROR, HANGUP, READ, WRITE, Poller

NAMES = ("select", "poll", "epoll")

__all__ = ["ERROR", "HANGUP", "NAMES", "READ", "WRITE", "Poller", "open_poller"]


def open_poller(name: str = "epoll") -> Poller:
    """Return a new poller of the kind `name` (`select`, `poll` or `epoll`).

    Raises `ValueError` for another name, `OSError` (EMFILE, ENFILE, ENOMEM) if the system call fails, and
    `AttributeError` where this Python was built without it.
    """
    if name not in NAMES:
        raise ValueError(f"unknown poller {name!r}: use one of {', '.join(NAMES)}")
    module = importlib.import_module(f"hybrid.workers.pollers.{name}")
    poller: Poller = module.Poller()
    return poller
