"""Predecessor and successor: the two ends of an upgrade, as the shell of a supervisor sees them.

As successor, this process serves the sockets of a predecessor, reports when every slot is served, and then owns them.
As predecessor, it executes the program again, and drains when the successor reports.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Self

from hybrid.supervisor.contact.notify_socket import NotifySocket
from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.listeners.estate import Estate
from hybrid.supervisor.upgrade.handover import CannotOffer, Failed, Offer
from hybrid.supervisor.upgrade.inheritance import Inheritance, Ledgers, Scale
from hybrid.supervisor.upgrade.invocation import METRICS_VARIABLE, Invocation
from hybrid.workers.contract import log
from hybrid.workers.contract.records import record

logger = logging.getLogger(log.LOGGER_NAME)


@record(frozen=True, slots=True)
class Origin:
    """How this process was started. By default: in a way that cannot be repeated."""

    invocation: Invocation | None = None
    inheritance: Inheritance | None = None
    notify_socket: NotifySocket = dataclasses.field(default_factory=lambda: NotifySocket(None, os.getpid()))
    metrics_home: str = ""
    """The directory of the predecessor for metrics of the application; empty: none."""

    @classmethod
    def of_this_process(cls, environ: MutableMapping[str, str]) -> Self:
        """Take the variables out of `environ`, so that programs started by workers do not see them.

        Raises `CannotInherit`.
        """
        inheritance = Inheritance.take(environ)
        notify_socket = NotifySocket.from_environment(environ, os.getpid(), handed_over=inheritance is not None)
        metrics_home = environ.pop(METRICS_VARIABLE, "")
        return cls(Invocation.current(), inheritance, notify_socket, metrics_home if inheritance else "")


class Succession:
    """Both ends of an upgrade. No method blocks, except for execve(2)."""

    def __init__(
        self,
        origin: Origin,
        estate: Estate,
        pidfile: Pidfile | None,
        metrics_home: Callable[[], str] = str,
    ) -> None:
        """`metrics_home` returns the directory that a successor gets for metrics of the application."""
        self._metrics_home = metrics_home
        self._invocation = origin.invocation
        self._inheritance = origin.inheritance
        self._estate = estate
        self._pidfile = pidfile
        self._offer: Offer | None = None
        self._has_claimed = False
        self.notify_socket = origin.notify_socket
        self.is_waiting = origin.inheritance is not None
        """True while a predecessor owns the sockets, and steers them."""

    @property
    def ledgers(self) -> Ledgers:
        """What the workers of predecessors count."""
        return Ledgers() if self._inheritance is None else self._inheritance.ledgers

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors to watch; pass readable ones to `receive`."""
        ends = (end.fileno() for end in (self._inheritance, self._offer) if end is not None)
        return tuple(fd for fd in ends if fd != -1)

    # --- as successor

    def claim(self) -> None:
        """Ask the predecessor for the sockets once every slot is served. May be called again."""
        if self._inheritance is not None and not self._has_claimed:
            self._has_claimed = True
            self._inheritance.serving()

    def _receive_from_predecessor(self, inheritance: Inheritance) -> ev.Event | None:
        match inheritance.poll_nowait():
            case "ours":
                self._take_over(inheritance)
            case "withdrawn":
                logger.warning("the supervisor to be replaced is gone, or has withdrawn its offer")
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
        remarks = list(self._estate.take_over())
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

    def start(
        self,
        scales: Mapping[str, Scale] | None = None,
        ledgers: Ledgers = Ledgers(),  # noqa: B008 - frozen
    ) -> ev.Event:
        """Execute the program again, pass it the number of workers of each service and ledgers; return the outcome."""
        if self._invocation is None:
            return ev.SuccessorFailed("it was not started by a command of its own: restart the program it runs in")
        if self.is_waiting:
            return ev.SuccessorFailed("it is about to replace another one itself")
        try:
            home = self._metrics_home()
            extra = {**self.notify_socket.environment, **({METRICS_VARIABLE: home} if home else {})}
            self._offer = Offer.begin(self._estate, self._invocation, extra, scales, ledgers)
        except CannotOffer as error:
            return ev.SuccessorFailed(str(error))
        return ev.SuccessorStarted(self._offer.pid)

    def withdraw(self, terminate: Callable[[int], object]) -> None:
        """Give up the successor, even if it hangs."""
        if self._offer is not None and self._offer.withdraw():
            terminate(self._offer.pid)
            self._offer.close()
            self._offer = None

    def _receive_from_successor(self, offer: Offer) -> ev.Event | None:
        match offer.poll_nowait():
            case "pending":
                return None
            case Failed(reason):
                offer.close()
                self._offer = None
                return ev.SuccessorFailed(reason)
            case "serving":
                self._estate.leave()
                self.notify_socket.main_pid(offer.pid)
                offer.close()
                self._offer = None
                return ev.SuccessorServes()

    # --- both

    def receive(self, fd: int) -> ev.Event | None:
        """Handle messages of the other supervisor on one of `descriptors`."""
        if self._offer is not None and fd == self._offer.fileno():
            return self._receive_from_successor(self._offer)
        if self._inheritance is not None and fd == self._inheritance.fileno():
            return self._receive_from_predecessor(self._inheritance)
        return None

    def close(self) -> None:
        """Close the links, in forked children too. A successor that does not serve yet ends at their EOF."""
        if self._offer is not None:
            self._offer.close()
        if self._inheritance is not None:
            self._inheritance.close()
        self.notify_socket.close()
