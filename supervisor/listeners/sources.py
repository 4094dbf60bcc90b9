"""The source of each address: a group, a UNIX socket or a passed one; opened here, or inherited from a predecessor.

Passed sockets of one TCP address form a group. `sockets` steers and closes them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from hybrid.supervisor.listeners.addresses import Bind, FdBind, TcpBind, UdpBind, UnixBind
from hybrid.supervisor.listeners.binding import cannot_bind, explain
from hybrid.supervisor.listeners.group import Group
from hybrid.supervisor.listeners.order import Order
from hybrid.supervisor.listeners.shared import PassedSocket, UnixFile, UnixSocket, inode_of
from hybrid.supervisor.settings import Settings

if TYPE_CHECKING:
    from hybrid.supervisor.upgrade.inheritance import Handed, Share

Source = Group | UnixSocket | PassedSocket


class Sources:
    """The sources of a service's sockets."""

    def __init__(self, settings: Settings, inheritance: Share | None) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._inheritance = inheritance
        self.all: list[Source] = []
        """Each source once: all must be closed."""
        self.by_bind: list[Source] = []
        """One for each address in the settings; passed ones may share a group."""
        self.by_entry: dict[int, Source] = {}
        """Index of a predecessor's address -> its source."""
        self.slots = settings.workers
        """How many slots have sockets."""

    def open(self) -> None:
        """Open or inherit all. Raises `BindError`; the open ones are in `all` then. Blocks as `Listeners` says."""
        _refuse_twins(self._settings.binds)
        if self._inheritance is not None:
            self._inheritance.have_slots(self.slots)
            self.slots = max(self.slots, self._inheritance.slots)
        passed = self._take_passed()
        for bind in self._settings.binds:
            source = passed.pop(bind) if isinstance(bind, FdBind) else self._inherit(bind) or self._open(bind)
            self.by_bind.append(source)
            self._enter(source)
            if isinstance(source, Group):
                source.grow(self.slots)

    @property
    def groups(self) -> list[Group]:
        """The sources with one socket per slot."""
        return [source for source in self.all if isinstance(source, Group)]

    def add_members(self) -> None:
        """Add members that the predecessor opened since its sockets were taken."""
        added = {} if self._inheritance is None else self._inheritance.additions()
        for entry, fds in added.items():
            source = self.by_entry[entry]
            if isinstance(source, Group):
                source.add([socket.socket(fileno=fd) for fd in fds])
                self.slots = max(self.slots, len(source.sockets))

    def _enter(self, source: Source) -> None:
        """Add a source to close."""
        if source not in self.all:
            self.all.append(source)

    def _inherit(self, bind: TcpBind | UdpBind | UnixBind) -> Source | None:
        """Return the predecessor's source for `bind`; None if there is none."""
        handed = None if self._inheritance is None else self._inheritance.sockets_for(bind)
        if handed is None:
            return None
        sockets = _as_sockets(bind, handed.fds)
        if not isinstance(bind, UnixBind):
            source: Source = Group.handed(bind, self._settings.backlog, sockets, Order(handed.order))
        elif handed.inode is not None and inode_of(bind.path) != handed.inode:
            sockets[0].close()  # its file was removed, so no client can reach it: open a new one
            return None
        else:
            source = UnixSocket.handed(bind, sockets[0], handed.inode, self._unix_file, self._settings.backlog)
        self.by_entry[handed.entry] = source
        return source

    def _open(self, bind: TcpBind | UdpBind | UnixBind) -> Source:
        if isinstance(bind, UnixBind):
            return UnixSocket(bind, self._unix_file, self._settings.backlog)
        return Group(bind, self._settings.backlog)

    @property
    def _unix_file(self) -> UnixFile:
        settings = self._settings
        return UnixFile(
            mode=settings.unix_mode,
            uid=-1 if settings.uid is None else settings.uid,
            gid=-1 if settings.gid is None else settings.gid,
        )

    def _take_passed(self) -> dict[FdBind, Source]:
        """Take the descriptors passed to this process; return the source of each."""
        found: dict[FdBind, PassedSocket] = {}
        entries: dict[FdBind, Handed] = {}
        for bind in self._settings.binds:
            if isinstance(bind, FdBind):
                handed = None if self._inheritance is None else self._inheritance.sockets_for(bind)
                if handed is not None:
                    entries[bind] = handed
                found[bind] = PassedSocket(bind, self._settings.backlog)
                self._enter(found[bind])
        sources: dict[FdBind, Source] = {**found}
        for binds in _alike(found):
            group = self._group_of(
                [found[bind] for bind in binds], [entries[bind] for bind in binds if bind in entries]
            )
            sources.update(dict.fromkeys(binds, group))
        self.by_entry.update({handed.entry: sources[bind] for bind, handed in entries.items()})
        return sources

    def _group_of(self, passed: list[PassedSocket], handed: list[Handed]) -> Group:
        group = Group.passed(
            passed[0].bind, self._settings.backlog, [one.sock for one in passed], self.slots, is_ours=not handed
        )
        self.all[:] = [one for one in self.all if one not in passed]
        self._enter(group)
        group.order = Order(handed[0].order if handed else ())
        group.add(_as_sockets(passed[0].bind, [fd for entry in handed for fd in entry.fds[1:]]))
        return group


def _alike(passed: dict[FdBind, PassedSocket]) -> list[list[FdBind]]:
    """Return the addresses that form a group; a socket passed twice is one member, and left alone."""
    groups: dict[Hashable, list[FdBind]] = {}
    for bind, one in passed.items():
        groups.setdefault(one.group, []).append(bind)
    return [
        binds
        for key, binds in groups.items()
        if key is not None and 1 < len(binds) == len({os.fstat(bind.fd).st_ino for bind in binds})
    ]


def _as_sockets(bind: Bind, fds: Iterable[int]) -> list[socket.socket]:
    """Return the sockets of inherited descriptors. Raises `BindError`."""
    try:
        return [socket.socket(fileno=fd) for fd in fds]
    except OSError as error:
        raise explain(bind, error) from error


def address_of(source: Source) -> str:
    """Return the address of a source, as a user types it."""
    return source.address if isinstance(source, Group) else source.listener.address


def _refuse_twins(binds: Iterable[Bind]) -> None:
    seen: set[Bind] = set()
    for bind in binds:
        if bind in seen and getattr(bind, "port", None) != 0:
            raise cannot_bind(bind, "it is given twice")
        seen.add(bind)
