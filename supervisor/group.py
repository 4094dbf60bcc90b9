"""The SO_REUSEPORT group of one TCP or UDP address: one listening socket per slot, opened in the order of slots.

The kernel gives each member its own accept queue. The members stay open for the supervisor's life: closing one would
reset what is queued on it, and move the last member to its index.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from hybrid.supervisor import handshakes, steering
from hybrid.supervisor.addresses import TcpBind, UdpBind, join_host_port
from hybrid.supervisor.binding import explain
from hybrid.workers.contract.seat import Listener, ListenerKind

Where = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Address family and socket address."""


class Group:
    """One address and its members."""

    def __init__(self, bind: TcpBind | UdpBind, backlog: int) -> None:
        self._bind = bind
        self._backlog = backlog
        self._kind = ListenerKind.STREAM if isinstance(bind, TcpBind) else ListenerKind.DATAGRAM
        self._where: Where | None = None  # the real address, known once the first member is bound
        self._members: list[socket.socket] = []  # its index is its slot
        self._pinned: tuple[int, ...] | None = None  # the slots that the attached program names; None: no program

    @property
    def address(self) -> str:
        """The real address, as a person types it; of a group that has been grown."""
        assert self._where is not None, "a group has an address once it has a member"
        host, port, *rest = self._where[1]
        scope = f"%{socket.if_indextoname(int(rest[1]))}" if len(rest) == 2 and rest[1] else ""
        text = join_host_port(f"{host}{scope}", int(port))
        return text if self._kind is ListenerKind.STREAM else f"udp://{text}"

    @property
    def listeners(self) -> list[Listener]:
        """All members, in order of slots."""
        return [Listener(self.address, self._kind, sock, slot) for slot, sock in enumerate(self._members)]

    def grow(self, slots: int) -> None:
        """Open members until there are `slots`; a new one gets no connections until it is steered to.

        Raises `BindError`. Blocks while a host name is resolved, at the first member.
        """
        if 0 < len(self._members) < slots and self._pinned is None:
            # the kernel counts a member in as soon as it listens, and nobody polls it yet
            with contextlib.suppress(steering.SteeringError):
                self._pin(tuple(range(len(self._members))))
        while len(self._members) < slots:
            try:
                self._members.append(self._open_member())
            except OSError as error:
                raise explain(self._bind, error) from error

    def steer(self, slots: tuple[int, ...]) -> None:
        """Let new connections go to the members of these slots only. Raises `SteeringError`."""
        present = tuple(slot for slot in slots if slot < len(self._members))
        if len(present) in (0, len(self._members)):
            self._spread()
        else:
            self._pin(present)

    def hold(self) -> None:
        """Let no further TCP handshake begin; those under way are completed. Nothing is held if the kernel cannot."""
        if self._kind is ListenerKind.STREAM:
            for sock in self._members:
                with contextlib.suppress(handshakes.HandshakesError):
                    handshakes.ignore(sock)

    def refuse(self) -> None:
        """Refuse new TCP connections: the sockets stop listening, in all processes that share them (shutdown(2))."""
        if self._kind is ListenerKind.STREAM:
            for sock in self._members:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all members; may be called twice."""
        for sock in self._members:
            sock.close()
        self._members.clear()

    def _pin(self, slots: tuple[int, ...]) -> None:
        if slots != self._pinned:
            steering.steer(self._members[0], slots)
            self._pinned = slots

    def _spread(self) -> None:
        if self._pinned is not None:
            steering.release(self._members[0])
            self._pinned = None

    def _open_member(self) -> socket.socket:
        if self._where is not None:
            return self._open(self._where, shared=True)
        where = self._resolve()
        first = (
            self._open_first_stream(where) if self._kind is ListenerKind.STREAM else self._open_first_datagram(where)
        )
        self._where = (where[0], first.getsockname())
        return first

    def _open_first_stream(self, where: Where) -> socket.socket:
        """Open the first member, unless somebody listens there.

        With SO_REUSEPORT set, bind(2) succeeds beside any other group of the same user: two services would share the
        port and nobody would know. A socket without it is refused, so one is tried first. Two services that start
        within the same millisecond refuse each other at worst. For port 0 the kernel looks for a free port, and a port
        with a group is not free (`inet_csk_find_open_port`).
        """
        if where[1][1] != 0:
            self._open(where, shared=False).close()
        return self._open(where, shared=True)

    def _open_first_datagram(self, where: Where) -> socket.socket:
        """Open the first member, unless somebody receives there.

        Here the one that is tried first stays until the member has joined it, so that no moment remains in which two
        services could get the same port. (TCP needs SO_REUSEADDR too, which would make this useless there; and for
        port 0 `udp_lib_get_port` does count a port with a group as free.)
        """
        with self._open(where, shared=False) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            return self._open((where[0], probe.getsockname()), shared=True)

    def _resolve(self) -> Where:
        kind = socket.SOCK_STREAM if self._kind is ListenerKind.STREAM else socket.SOCK_DGRAM
        try:
            found = socket.getaddrinfo(self._bind.host, self._bind.port, type=kind, flags=socket.AI_PASSIVE)
        except UnicodeError:  # a label that is empty or too long: the codec "idna" refuses it before any look-up
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return found[0][0], found[0][4]

    def _open(self, where: Where, *, shared: bool) -> socket.socket:
        family, address = where
        is_stream = self._kind is ListenerKind.STREAM
        sock = socket.socket(family, socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if family == socket.AF_INET6:  # [::] and 0.0.0.0 are two addresses here, whatever the system's default
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if is_stream:
                # connections of an earlier service in TIME_WAIT do not count
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            if is_stream:
                sock.listen(self._backlog)
        except BaseException:
            sock.close()
            raise
        return sock
