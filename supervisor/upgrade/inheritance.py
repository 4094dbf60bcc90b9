"""The side of a successor: the sockets that another supervisor has given to this process, and the line to it.

The environment names a memfd, which was inherited with them; it tells what they are. A variable that is left over names
no such file: then nothing is inherited.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
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
from hybrid.supervisor.upgrade.wire import Cannot, Grant, Granted, Line, Serving, Taken, Want, WireError, Yours
from hybrid.workers.contract.records import record

FILE_NAME: Final = "hybrid-handover"
"""Of the memfd."""
FORM: Final = 1
"""Of what is written in it; another version of this program may know another one."""
_PATIENCE: Final = 10.0  # seconds for an answer; the predecessor does nothing that takes long

News = Literal["pending", "withdrawn", "ours", "released"]


class CannotInherit(BindError):  # noqa: N818 - as CannotOffer
    """There is an inheritance, and it cannot be taken; the text is complete."""


@record(frozen=True, slots=True)
class Handed:
    """The sockets of one address."""

    entry: int
    """Its number among what the predecessor has."""
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
    """As its command says."""
    wanted: int
    """As changed since by TTIN and TTOU."""

    def for_successor(self, configured: int) -> int:
        """Return the number for a successor whose command says `configured`. A changed command counts."""
        return self.wanted if configured == self.configured else configured


@dataclasses.dataclass(slots=True)
class _Entry:
    """An address of the predecessor's."""

    bind: str
    fds: list[int]
    slots: int
    inode: Inode | None
    order: tuple[int, ...] = ()
    is_taken: bool = False


def inherited_binds(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses that `Inheritance.take` would find, and take nothing. Raises `CannotInherit`."""
    found = _read(environ.get(HANDOVER_VARIABLE, ""))
    return () if found is None else tuple(entry["bind"] for entry in found[1]["entries"])


class Inheritance:
    """What a predecessor has handed to this process. Only `have_slots` blocks."""

    def __init__(self, predecessor_pid: int, line: Line, entries: list[_Entry], scale: Scale | None = None) -> None:
        self.predecessor_pid = predecessor_pid
        """Process id of the supervisor that this one replaces."""
        self.scale = scale
        """How many workers it has; None: it has not said."""
        self._line = line
        self._entries = entries  # as numbered by the predecessor
        self._additions: dict[int, list[int]] = collections.defaultdict(list)  # entry that is taken -> new descriptors
        self._is_ours = False

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Inheritance | None:
        """Take over what another supervisor has handed to this process; None if there is nothing.

        Removes the variable from `environ` and marks all descriptors close-on-exec, so that no program of a worker's
        gets them. Raises `CannotInherit` if another version of this program has written it.
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
            line = socket.socket(fileno=estate["line"])
        except OSError as error:  # a process between us and our parent has closed unknown descriptors
            raise CannotInherit(f"the sockets of the supervisor that is to be replaced got lost: {error}") from error
        line.set_inheritable(False)
        scale = estate.get("scale")  # an older version says nothing
        return cls(estate["predecessor"], Line(line), entries, None if scale is None else Scale(**scale))

    @property
    def binds(self) -> tuple[str, ...]:
        """The addresses of the predecessor, in its order."""
        return tuple(entry.bind for entry in self._entries)

    @property
    def slots(self) -> int:
        """How many slots of the predecessor's have had a worker, and may have connections in their queues."""
        return max((entry.slots for entry in self._entries), default=0)

    def have_slots(self, slots: int) -> None:
        """Have the predecessor make sockets for `slots` slots where it has fewer. Raises `CannotInherit`.

        It makes them and keeps them, so that nothing is lost in them if this start fails. Blocks, ten seconds at most.
        To be called before sockets are taken.
        """
        if not any(0 < entry.slots < slots for entry in self._entries):
            return
        try:
            self._line.say(Want(slots))
            self._wait_granted(time.monotonic() + _PATIENCE)
        except WireError as error:
            raise CannotInherit(f"cannot have the sockets of {slots} workers: {error}") from error

    def _wait_granted(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._line.fileno(), select.POLLIN)
        while True:
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            heard = self._line.hear_nowait()
            match heard:
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

    def sockets_for(self, bind: Bind) -> Handed | None:
        """Return the sockets of `bind`, which are the caller's from now on; None if the predecessor has none.

        An address that was given twice (a port 0) is returned twice.
        """
        for number, entry in enumerate(self._entries):
            if entry.bind == str(bind) and not entry.is_taken:
                entry.is_taken = True
                return Handed(number, tuple(entry.fds), entry.inode, entry.order)
        return None

    def close_unused(self) -> None:
        """Close the sockets that were not asked for."""
        for entry in self._entries:
            if not entry.is_taken:
                _close_all(entry.fds)

    def additions(self) -> dict[int, list[int]]:
        """Return what the predecessor has opened since: number of an address that was taken -> descriptors, once."""
        found = dict(self._additions)
        self._additions.clear()
        return found

    def serving(self) -> None:
        """Tell the predecessor that every slot is served; the answer comes by `poll_nowait`."""
        taken = tuple(number for number, entry in enumerate(self._entries) if entry.is_taken)
        with contextlib.suppress(WireError):  # gone: poll_nowait says so
            self._line.say(Serving(taken))

    def taken(self) -> None:
        """Tell the predecessor that sockets and files are ours now, after `poll_nowait` has said so: it drains."""
        with contextlib.suppress(WireError):  # gone: it has nothing to drain
            self._line.say(Taken())

    def fileno(self) -> int:
        """Return the descriptor to poll, for `poll_nowait`; -1 once closed. It is no business of the workers."""
        return self._line.fileno()

    def poll_nowait(self) -> News:
        """Return what the predecessor has said.

        `ours`, once: take over the listeners and the pidfile now, and then say `taken`. `withdrawn`: the predecessor is
        gone or wants us no more, and the sockets were never ours: end. `released`, after `ours`: it has noted that we
        have taken over, or is gone; nothing more will come.
        """
        try:
            while (heard := self._line.hear_nowait()) is not None:
                match heard:
                    case (Grant(entries), fds):
                        self._enter(entries, fds)
                    case (Yours(), _):
                        self._is_ours = True
                        return "ours"
                    case _:  # an answer that came too late
                        pass
        except WireError:
            return "released" if self._is_ours else "withdrawn"
        return "pending"

    def close(self) -> None:
        """Close the line and descriptors that were not taken; may be called twice. Called in forked children too."""
        self._line.close()
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


def _entry_of(bind: str, fds: list[int], slots: int, inode: list[int] | None, order: Sequence[int] = ()) -> _Entry:
    return _Entry(bind, fds, slots, None if inode is None else (inode[0], inode[1]), tuple(order))


def _read(text: str) -> tuple[int, dict[str, Any]] | None:
    """Return the memfd that `text` names and what is in it; None if it is no inheritance."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    memfd = int(text)
    try:
        # the number may stand for anything, if the variable is left over
        if not os.readlink(f"/proc/self/fd/{memfd}").startswith(f"/memfd:{FILE_NAME}"):  # noqa: PTH115
            return None
        estate: dict[str, Any] = json.loads(os.pread(memfd, os.fstat(memfd).st_size, 0))
    except (OSError, ValueError):
        return None
    if estate.get("form") != FORM:
        raise CannotInherit("the supervisor that is to be replaced is of another version: stop it, and start anew")
    return memfd, estate


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    fds.clear()
