"""What an account may do on the control line. The kernel names the account of a client (SO_PEERCRED, unix(7)).

Root and the supervisor's own account may do everything, members of the control group may look, others nothing. The
kernel reports the ids that a client had when it connected, so a client cannot pretend.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct
from typing import Final

from hybrid.workers.contract.records import record

_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h, since Linux 4.13; the `socket` module does not know it
_MOST_BYTES: Final = 1024  # what `socket.getsockopt` accepts: 256 groups
_ID = struct.Struct("I")
_UNKNOWN = frozenset((errno.ENOPROTOOPT, errno.ERANGE, errno.EOPNOTSUPP))  # an old kernel, or too many groups


class Rights(enum.Enum):
    """What a client may do."""

    FULL = "full"
    LOOK = "look"
    NONE = "none"


@record(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was then."""

    pid: int
    """0 if it is in another PID namespace."""
    uid: int
    gid: int
    groups: frozenset[int] | None = None
    """Its supplementary groups; None: the kernel does not tell."""


@record(frozen=True, slots=True)
class ControlGroup:
    """The group whose members may look."""

    gid: int
    members: frozenset[int] = frozenset()
    """The uids of its members in the group database; they count where the kernel does not tell the groups."""


def peer_of(sock: socket.socket) -> Peer:
    """Return the process at the other end of a connected UNIX socket. Raises `OSError`. Never blocks."""
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size),
    )
    return Peer(pid, uid, gid, _groups_of(sock))


def _groups_of(sock: socket.socket) -> frozenset[int] | None:
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return None
        raise
    return frozenset(number for (number,) in _ID.iter_unpack(found))


def rights_of(peer: Peer, owner: int, group: ControlGroup | None) -> Rights:
    """Return what a client may do, with a supervisor of the account `owner`."""
    if peer.uid in (0, owner):
        return Rights.FULL
    if group is None:
        return Rights.NONE
    if peer.gid == group.gid or group.gid in (peer.groups or ()):
        return Rights.LOOK
    return Rights.LOOK if peer.groups is None and peer.uid in group.members else Rights.NONE


def control_group(gid: int) -> ControlGroup:
    """Return a group and its members in the group database, which may be on the network: may block."""
    import grp
    import pwd

    members = set()
    try:
        names = grp.getgrgid(gid).gr_mem
    except (KeyError, OverflowError, OSError):  # a number without a name
        names = []
    for name in names:
        try:
            members.add(pwd.getpwnam(name).pw_uid)
        except (KeyError, OSError):  # an account that is gone
            continue
    return ControlGroup(gid, frozenset(members))
