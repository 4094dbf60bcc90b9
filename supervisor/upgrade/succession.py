"""Our predecessor and our successor: the two ends of an upgrade, as the shell of a supervisor sees them.

As successor: we serve the sockets of a predecessor, say so once every slot is served, and are given them.
As predecessor: we execute the program anew, and leave once it has said so.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, MutableMapping
from typing import Self

from hybrid.supervisor.contact.notify_socket import NotifySocket
from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.upgrade.handover import CannotOffer, Failed, Offer
from hybrid.supervisor.upgrade.inheritance import Inheritance, Scale
from hybrid.supervisor.upgrade.invocation import Invocation
from hybrid.workers.contract import log
from hybrid.workers.contract.records import record

logger = logging.getLogger(log.LOGGER_NAME)


@record(frozen=True, slots=True)
class Origin:
    """How this process came to be a supervisor. By default: in a way that cannot be repeated."""

    invocation: Invocation | None = None
    inheritance: Inheritance | None = None
    notify_socket: NotifySocket = dataclasses.field(default_factory=lambda: NotifySocket(None, os.getpid()))

    @classmethod
    def of_this_process(cls, environ: MutableMapping[str, str]) -> Self:
        """Take what `environ` says of it, so that no program of a worker's finds it there. Raises `CannotInherit`."""
        inheritance = Inheritance.take(environ)
        notify_socket = NotifySocket.from_environment(environ, os.getpid(), handed_over=inheritance is not None)
        return cls(Invocation.current(), inheritance, notify_socket)


class Succession:
    """See above. No method blocks, but for execve(2)."""

    def __init__(self, origin: Origin, listeners: Listeners, pidfile: Pidfile | None) -> None:
        self._invocation = origin.invocation
        self._inheritance = origin.inheritance
        self._listeners = listeners
        self._pidfile = pidfile
        self._offer: Offer | None = None
        self._has_claimed = False
        self.notify_socket = origin.notify_socket
        self.is_waiting = origin.inheritance is not None
        """Whether the sockets are a predecessor's: steering them is its business."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What is to be watched, and told to `hear`."""
        ends = (end.fileno() for end in (self._inheritance, self._offer) if end is not None)
        return tuple(fd for fd in ends if fd != -1)

    # --- as successor

    def claim(self) -> None:
        """Every slot is served: ask the predecessor for the sockets. May be called again."""
        if self._inheritance is not None and not self._has_claimed:
            self._has_claimed = True
            self._inheritance.serving()

    def _hear_predecessor(self, inheritance: Inheritance) -> ev.Event | None:
        match inheritance.poll_nowait():
            case "ours":
                self._take_over(inheritance)
            case "withdrawn":
                logger.warning("the supervisor that we were to replace is gone, or wants us no more")
                inheritance.close()
                return ev.StopAsked(graceful=True)
            case "released":
                self.notify_socket.take_over()
                inheritance.close()
            case "pending":
                pass
        return None

    def _take_over(self, inheritance: Inheritance) -> None:
        self.is_waiting = False
        remarks = list(self._listeners.take_over())
        if self._pidfile is not None:
            try:
                self._pidfile.take_over()
            except PidfileError as error:
                remarks.append(str(error))
        for remark in remarks:
            logger.warning("%s", remark)
        inheritance.taken()
        logger.info("upgraded: this supervisor has replaced %d", inheritance.predecessor_pid)

    # --- as predecessor

    def start(self, scale: Scale | None = None) -> ev.Event:
        """Execute the program anew, and tell it how many workers there are; return what came of it."""
        if self._invocation is None:
            return ev.SuccessorFailed("it was not started by a command of its own: restart the program it runs in")
        if self.is_waiting:
            return ev.SuccessorFailed("it is about to replace another one itself")
        try:
            self._offer = Offer.begin(self._listeners, self._invocation, self.notify_socket.environment, scale)
        except CannotOffer as error:
            return ev.SuccessorFailed(str(error))
        return ev.SuccessorStarted(self._offer.pid)

    def withdraw(self, terminate: Callable[[int], object]) -> None:
        """Give the successor up, also one that hangs."""
        if self._offer is not None and self._offer.withdraw():
            terminate(self._offer.pid)
            self._offer.close()
            self._offer = None

    def _hear_successor(self, offer: Offer) -> ev.Event | None:
        match offer.poll_nowait():
            case "pending":
                return None
            case Failed(reason):
                offer.close()
                self._offer = None
                return ev.SuccessorFailed(reason)
            case "serving":
                self._listeners.leave()
                self.notify_socket.main_pid(offer.pid)
                offer.close()
                self._offer = None
                return ev.SuccessorServes()

    # --- both

    def hear(self, fd: int) -> ev.Event | None:
        """Take in what the other supervisor says on one of `descriptors`."""
        if self._offer is not None and fd == self._offer.fileno():
            return self._hear_successor(self._offer)
        if self._inheritance is not None and fd == self._inheritance.fileno():
            return self._hear_predecessor(self._inheritance)
        return None

    def close(self) -> None:
        """Close the lines; in forked children too. A successor that does not serve yet ends by that."""
        if self._offer is not None:
            self._offer.close()
        if self._inheritance is not None:
            self._inheritance.close()
        self.notify_socket.close()
