"""Messages of children, as events of the machine."""

from __future__ import annotations

from hybrid.supervisor.core.events import ChildMessage, ChildSaid
from hybrid.workers.contract.messages import Ready

READY = Ready("epoll", "async stream")


def said(pid: int, message: ChildMessage) -> ChildSaid:
    """Return the event that the child `pid` has sent a message."""
    return ChildSaid(pid, message)
