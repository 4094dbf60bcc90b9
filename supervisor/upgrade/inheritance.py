"""The new supervisor's side of an upgrade: the sockets inherited from another supervisor, and the link to it.

The environment names a memfd, inherited with the sockets, which describes them. A stale variable names no such file;
then nothing is inherited.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import logging
import os
import select
import socket
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final, Literal

from hybrid.supervisor.listeners.addresses import Bind
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.shared import Inode
from hybrid.supervisor.upgrade.invocation import HANDOVER_VARIABLE
from hybrid.supervisor.upgrade.ledger import Ledger
from hybrid.supervisor.upgrade.wire import Cannot, Grant, Granted, PeerLink, Serving, Taken, Want, WireError, Yours
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.records import record

logger = logging.getLogger(LOGGER_NAME)

FILE_NAME: Final = "hybrid-handover"
"""Name of the memfd."""
FORM: Final = 1
"""Version of the format of the memfd; other versions of this program may write another one."""
_PATIENCE: Final = 10.0  # seconds to wait for an answer; the predecessor answers at once

News = Literal["pending", "withdrawn", "ours", "released"]


class CannotInherit(BindError):  # noqa: N818 - as CannotOffer
    """There is an inheritance, but it cannot be taken; the text is complete."""


@record(frozen=True, slots=True)
class Handed:
    """The sockets of one address."""

    entry: int
    """Its index among the addresses of the predecessor."""
    fds: tuple[int, ...]
    """In order of slots; see `Offered`."""
    inode: Inode | None
    """The file of a UNIX socket."""
    order: tuple[int, ...] = ()
    """See `Offered`."""


@record(frozen=True, slots=True)
class Scale:
    """How many workers a supervisor runs."""

    configured: int
    """The number in its command."""
    wanted: int
    """The number after changes by TTIN and TTOU."""

    def for_successor(self, configured: int) -> int:
        """Return the number of workers for a successor with `configured` in its command; a changed command wins."""
        return self.wanted if configured == self.configured else configured


@record(frozen=True, slots=True)
class Ledgers:
    """The ledgers that a predecessor gives to its successor."""

    before: Ledger | None = None
    """What the predecessor's workers count; None: it is of an older version, or has no memory for one."""
    earlier: tuple[Ledger, ...] = ()
    """Those of supervisors before it that were alive."""
    reply: Ledger | None = None
    """The successor writes there what its own workers count, until it is in charge."""

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors of all."""
        ends = (self.before, *self.earlier, self.reply)
        return tuple(ledger.fileno() for ledger in ends if ledger is not None)

    def described(self) -> dict[str, Any]:
        """Return the descriptors for JSON."""
        return {
            "ledger": None if self.before is None else self.before.fileno(),
            "earlier": [ledger.fileno() for ledger in self.earlier],
            "reply": None if self.reply is None else self.reply.fileno(),
        }

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Ledgers:
        """Return what `described` describes in the process that got the descriptors. A missing one is logged."""
        earlier = [_ledger_of(fd) for fd in described.get("earlier", ())]
        return cls(
            _ledger_of(described.get("ledger")),
            tuple(ledger for ledger in earlier if ledger is not None),
            _ledger_of(described.get("reply")),
        )


@dataclasses.dataclass(slots=True)
class _Entry:
    """An address of the predecessor."""

    bind: str
    fds: list[int]
    slots: int
    inode: Inode | None
    order: tuple[int, ...] = ()
    service: str = ""
    """The service that it belongs to; empty: unknown."""
    is_taken: bool = False


def inherited_binds(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses that `Inheritance.take` would find, without taking them. Raises `CannotInherit`."""
    found = _read(environ.get(HANDOVER_VARIABLE, ""))
    return () if found is None else tuple(entry["bind"] for entry in found[1]["entries"])


class Inheritance:
    """Everything a predecessor passed to this process. Only `have_slots` blocks."""

    def __init__(
        self,
        predecessor_pid: int,
        link: PeerLink,
        entries: list[_Entry],
        scales: Mapping[str, Scale] | None = None,
        ledgers: Ledgers = Ledgers(),  # noqa: B008 - frozen
    ) -> None:
        self.predecessor_pid = predecessor_pid
        """Process id of the supervisor that this one replaces."""
        self.scales: Mapping[str, Scale] = {} if scales is None else scales
        """Service -> how many workers it has; those that an older version does not tell are missing."""
        self.ledgers = ledgers
        """What the workers of predecessors count. Who takes them closes them."""
        self._link = link
        self._entries = entries  # in the order of the predecessor
        self._additions: dict[int, list[int]] = collections.defaultdict(list)  # entry that is taken -> new descriptors
        self._is_ours = False

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Inheritance | None:
        """Take everything that another supervisor passed to this process; None if nothing was passed.

        Removes the variable from `environ` and marks all descriptors close-on-exec, so that programs started by
        workers do not get them. Raises `CannotInherit` if the format is of another version.
        """
        found = _read(environ.pop(HANDOVER_VARIABLE, ""))
        if found is None:
            return None
        memfd, estate = found
        os.close(memfd)
        entries = [_entry_of(**item) for item in estate["entries"]]
        try:
            for fd in (fd for entry in entries for fd in entry.fds):
                os.set_inheritable(fd, False)
            sock = socket.socket(fileno=estate["line"])
        except OSError as error:  # a process in between closed descriptors it did not know
            raise CannotInherit(f"the sockets of the supervisor to be replaced got lost: {error}") from error
        sock.set_inheritable(False)
        scales = {name: Scale(**scale) for name, scale in estate.get("scales", {}).items()}
        return cls(estate["predecessor"], PeerLink(sock), entries, scales, Ledgers.of(estate))

    @property
    def binds(self) -> tuple[str, ...]:
        """The addresses of the predecessor, in its order."""
        return tuple(entry.bind for entry in self._entries)

    def share(self, service: str, binds: Sequence[Bind]) -> Share:
        """Return the part of a service with these addresses.

        It includes addresses that are another service's at the predecessor, so that they stay open; but not those with
        any free port, which may be given twice.
        """
        texts = {str(bind) for bind in binds}
        certain = {str(bind) for bind in binds if getattr(bind, "port", None) != 0}
        entries = [(number, entry) for number, entry in enumerate(self._entries) if entry.bind in texts]
        own = [number for number, entry in entries if entry.service in ("", service)]
        others = [number for number, entry in entries if number not in own and entry.bind in certain]
        return Share(self, (*own, *others))

    def have_slots(self, service: str, slots: int) -> None:
        """Have the predecessor open sockets for `slots` slots of a service. Raises `CannotInherit`.

        It opens and keeps them, so that no connection is lost if this start fails. Blocks for ten seconds at most.
        """
        try:
            self._link.send(Want(slots, service))
            self._wait_granted(time.monotonic() + _PATIENCE)
        except WireError as error:
            raise CannotInherit(f"cannot have the sockets of {slots} workers: {error}") from error

    def _wait_granted(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        while True:
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            match self._link.receive_nowait():
                case (Grant(entries), fds):
                    self._enter(entries, fds)
                case (Granted(), _):
                    return
                case (Cannot(reason), _):
                    raise WireError(reason)
                case None if time.monotonic() >= deadline:
                    raise WireError(f"the other supervisor has not answered within {_PATIENCE:g} s")
                case _:
                    pass

    def entry(self, number: int) -> _Entry:
        """Return an address of the predecessor."""
        return self._entries[number]

    def close_unused(self) -> None:
        """Close the sockets that were not taken."""
        for entry in self._entries:
            if not entry.is_taken:
                _close_all(entry.fds)

    def additions(self, numbers: Sequence[int] | None = None) -> dict[int, list[int]]:
        """Return the descriptors opened since, once: index of a taken address -> descriptors.

        `numbers`: of these addresses only.
        """
        chosen = [number for number in self._additions if numbers is None or number in numbers]
        return {number: self._additions.pop(number) for number in chosen}

    def serving(self) -> None:
        """Tell the predecessor that every slot is served; `poll_nowait` returns its answer."""
        taken = tuple(number for number, entry in enumerate(self._entries) if entry.is_taken)
        with contextlib.suppress(WireError):  # gone: poll_nowait reports it
            self._link.send(Serving(taken))

    def taken(self) -> None:
        """Confirm `ours`: this process owns sockets and files, and the predecessor drains."""
        with contextlib.suppress(WireError):  # gone: nothing to drain
            self._link.send(Taken())

    def fileno(self) -> int:
        """Return the descriptor to poll for `poll_nowait`; -1 once closed. Workers must close it."""
        return self._link.fileno()

    def poll_nowait(self) -> News:
        """Return the news from the predecessor.

        `ours`, once: take over the listeners and the pidfile now, then call `taken`. `withdrawn`: the predecessor is
        gone or has withdrawn the offer before this process owned the sockets; end. `released`, after `ours`: it has
        seen the confirmation, or is gone; this is the last news.
        """
        try:
            while (received := self._link.receive_nowait()) is not None:
                match received:
                    case (Grant(entries), fds):
                        self._enter(entries, fds)
                    case (Yours(), _):
                        self._is_ours = True
                        return "ours"
                    case _:  # a late answer
                        pass
        except WireError:
            return "released" if self._is_ours else "withdrawn"
        return "pending"

    def close(self) -> None:
        """Close the link and the descriptors not taken; may be called twice. Called in forked children too."""
        self._link.close()
        self.close_unused()
        for fds in self.additions().values():
            _close_all(fds)

    def _enter(self, entries: tuple[int, ...], fds: list[int]) -> None:
        for number, fd in zip(entries, fds, strict=True):
            if not 0 <= number < len(self._entries):
                os.close(fd)
            elif self._entries[number].is_taken:
                self._additions[number].append(fd)
            else:
                self._entries[number].fds.append(fd)


class Share:
    """The part of an inheritance that belongs to one service."""

    def __init__(self, inheritance: Inheritance, numbers: Sequence[int]) -> None:
        """`numbers`: the indexes of its addresses."""
        self._inheritance = inheritance
        self._numbers = numbers
        self._taken: list[int] = []

    @property
    def slots(self) -> int:
        """How many slots ever had a worker of the predecessor, and so may have connections in their queues."""
        return max((self._inheritance.entry(number).slots for number in self._numbers), default=0)

    def have_slots(self, slots: int) -> None:
        """Have the predecessor open sockets for `slots` slots if it has fewer. Raises `CannotInherit`.

        Blocks for ten seconds at most. Call this before taking sockets.
        """
        entries = [self._inheritance.entry(number) for number in self._numbers]
        slots = max(slots, self.slots)  # addresses of several services may have different numbers
        for service in dict.fromkeys(entry.service for entry in entries if 0 < entry.slots < slots):
            self._inheritance.have_slots(service, slots)

    def sockets_for(self, bind: Bind) -> Handed | None:
        """Return the sockets of `bind`, which the caller then owns; None if the predecessor has none.

        An address that was given twice (port 0) is returned twice.
        """
        for number in self._numbers:
            entry = self._inheritance.entry(number)
            if entry.bind == str(bind) and not entry.is_taken:
                entry.is_taken = True
                self._taken.append(number)
                return Handed(number, tuple(entry.fds), entry.inode, entry.order)
        return None

    def additions(self) -> dict[int, list[int]]:
        """Return the descriptors opened since, once: index of a taken address -> descriptors."""
        return self._inheritance.additions(self._taken)


def _ledger_of(fd: int | None) -> Ledger | None:
    if fd is None:
        return None
    try:
        os.set_inheritable(fd, False)
    except OSError as error:  # a process in between closed it
        logger.warning("counts of another supervisor are missing: its ledger got lost: %s", error.strerror)
        return None
    return Ledger(fd)


def _entry_of(
    bind: str, fds: list[int], slots: int, inode: list[int] | None, order: Sequence[int] = (), service: str = ""
) -> _Entry:
    return _Entry(bind, fds, slots, None if inode is None else (inode[0], inode[1]), tuple(order), service)


def _read(text: str) -> tuple[int, dict[str, Any]] | None:
    """Return the memfd that `text` names and its content; None if it is no inheritance."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    memfd = int(text)
    try:
        # a stale variable may name any descriptor
        if not os.readlink(f"/proc/self/fd/{memfd}").startswith(f"/memfd:{FILE_NAME}"):  # noqa: PTH115
            return None
        estate: dict[str, Any] = json.loads(os.pread(memfd, os.fstat(memfd).st_size, 0))
    except (OSError, ValueError):
        return None
    if estate.get("form") != FORM:
        raise CannotInherit("the supervisor to be replaced is of another version: stop it, then start this one")
    return memfd, estate


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    fds.clear()
