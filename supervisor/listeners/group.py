"""The SO_REUSEPORT group of one TCP or UDP address: one listening socket per slot, in the order of slots.

The kernel gives each member its own accept queue. The members stay open for the supervisor's life: closing one would
reset the connections in its queue, and move the last member to its index. (shutdown(2) by an application does the same;
then the member listens again, and `order` tracks the indexes.) During an upgrade, two supervisors share the group, and
only its owner steers connections.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Sequence
from typing import Any, Final

from hybrid.supervisor.listeners import handshakes, members, steering
from hybrid.supervisor.listeners.addresses import Bind, FdBind, TcpBind, UdpBind, join_host_port
from hybrid.supervisor.listeners.binding import BindError, cannot_bind, explain, explain_and_search
from hybrid.supervisor.listeners.order import Order
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, is_shut_down

_UNKNOWN: Final = (-1,)  # for `_pinned`: a program that another process has attached


class Group:
    """An address and its members."""

    def __init__(self, bind: Bind, backlog: int) -> None:
        """Create a group without members; `grow` opens them."""
        self._bind = bind
        self._backlog = backlog
        self._kind = ListenerKind.DATAGRAM if isinstance(bind, UdpBind) else ListenerKind.STREAM
        self._members: list[socket.socket] = []  # its index is its slot
        # The first members, opened in an unknown order by a process that outlives us: their indexes are known only as a
        # set.
        self._passed = 0
        self._by_slot: int | None = None  # how many of the passed members are polled by one slot only; None: all
        self._is_ours = True
        self.order = Order()
        """The index of each member."""
        self._pinned: tuple[int, ...] | None = None  # the slots that the attached program names; None: no program
        self._wanted: tuple[int, ...] = ()  # the slots of the last `steer`; empty: all

    @classmethod
    def handed(
        cls, bind: TcpBind | UdpBind, backlog: int, sockets: Sequence[socket.socket], order: Order | None = None
    ) -> Group:
        """Return a predecessor's group, with its members in order of slots; `take_over` makes it ours."""
        group = cls(bind, backlog)
        group._members += sockets
        group.order = order or group.order
        group._is_ours, group._pinned = False, _UNKNOWN
        return group

    @classmethod
    def passed(
        cls, bind: FdBind, backlog: int, sockets: Sequence[socket.socket], slots: int, *, is_ours: bool = True
    ) -> Group:
        """Return the group of listening TCP sockets that were passed to this process.

        All workers poll those beyond `slots`. `is_ours`: no predecessor holds them too.
        """
        group = cls(bind, backlog)
        group._members += sockets
        group._passed, group._by_slot = len(sockets), slots
        group._is_ours, group._pinned = is_ours, _UNKNOWN
        return group

    @functools.cached_property
    def address(self) -> str:
        """The real address as a user types it; the group must have members."""
        host, port, *rest = self._where
        scope = f"%{socket.if_indextoname(int(rest[1]))}" if len(rest) == 2 and rest[1] else ""
        text = join_host_port(f"{host}{scope}", int(port))
        return text if self._kind is ListenerKind.STREAM else f"udp://{text}"

    @property
    def listeners(self) -> list[Listener]:
        """All members, in order of slots."""
        return [
            Listener(self.address, self._kind, sock, None if self._is_for_all(index) else index)
            for index, sock in enumerate(self._members)
        ]

    @property
    def by_slot(self) -> list[tuple[int | None, socket.socket]]:
        """The slot (None: all) and the socket of each member, without a system call."""
        return [(None if self._is_for_all(index) else index, sock) for index, sock in enumerate(self._members)]

    def _is_for_all(self, index: int) -> bool:
        return self._by_slot is not None and self._by_slot <= index < self._passed

    @property
    def kind(self) -> ListenerKind:
        """The kind of the sockets."""
        return self._kind

    @property
    def passed_count(self) -> int:
        """How many of the members, counted from the first, were passed to this process."""
        return self._passed

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The members, in order of slots."""
        return tuple(self._members)

    def add(self, sockets: Sequence[socket.socket]) -> None:
        """Add members that the predecessor opened later."""
        self._members += sockets

    def grow(self, slots: int) -> None:
        """Open members until there are `slots`; a new one gets no connections before `steer`.

        Raises `BindError`. Blocks while a host name is resolved, at the first member.
        """
        if 0 < len(self._members) < slots:
            with contextlib.suppress(steering.SteeringError):
                self._keep_to_present()
        self._open_until(slots)

    def reserve(self, slots: int) -> None:
        """Open members for the workers of a successor; no worker here polls them, so they get no connections.

        Raises `BindError`, also if the kernel refuses the program.
        """
        if len(self._members) < slots:
            try:
                self._keep_to_present()
            except steering.SteeringError as error:
                raise cannot_bind(self._bind, str(error)) from error
        self._open_until(slots)

    def _keep_to_present(self) -> None:
        """Attach a program for the present members: the kernel would use a new one as soon as it listens."""
        if self._is_ours and self._pinned in (None, _UNKNOWN):
            present = tuple(range(len(self._members)))
            self._pin(present)
            self._wanted = self._wanted or present

    def _open_until(self, slots: int) -> None:
        while len(self._members) < slots:
            if not self._is_ours:
                raise cannot_bind(self._bind, "the sockets still belong to the supervisor that this one replaces")
            try:
                self._members.append(self._open_member())
            except OSError as error:
                raise self._explain(error, slots) from error

    def steer(self, slots: tuple[int, ...]) -> None:
        """Direct new connections to the members of these slots, once the group is ours. Raises `SteeringError`."""
        self._wanted = slots
        if not self._is_ours:
            return
        indexes = self.order.of(len(self._members))
        if indexes is None:
            self._spread()
            return
        present = {slot for slot in slots if slot < len(self._members)}
        if any(slot < self._passed for slot in present):
            present |= set(range(self._passed))
        if len(present) in (0, len(self._members)):
            self._spread()
        else:
            self._pin(tuple(sorted(indexes[slot] for slot in present)))

    def lend(self) -> None:
        """Leave steering to a successor; if it fails, call `take_over`."""
        self._is_ours = False

    def take_over(self) -> None:
        """Become the owner: steer as last told, listen with our backlog. Raises `SteeringError`. Never blocks."""
        if self._is_ours:
            return
        self._is_ours, self._pinned = True, _UNKNOWN
        if self._kind is ListenerKind.STREAM:
            for sock in self._members[self._passed :]:
                with contextlib.suppress(OSError):  # changes the backlog only: it listens already
                    sock.listen(self._backlog)
        self.steer(self._wanted)

    def mend(self) -> bool:
        """Make members that were shut down listen again; return True if there were any. Raises `BindError`."""
        if self._kind is not ListenerKind.STREAM or not self._is_ours:
            return False
        dead = [slot for slot, sock in enumerate(self._members) if is_shut_down(sock)]
        if not dead:
            return False
        self.order.lose(dead, len(self._members), is_known=not self._passed)
        try:
            for slot in dead:
                members.listen_again(self._members[slot], self._where, self._backlog)
        except OSError as error:  # the next look tries again
            self.order.lose(dead, len(self._members), is_known=False)
            raise explain(self._bind, error) from error
        finally:
            self._pinned = _UNKNOWN
            with contextlib.suppress(steering.SteeringError):  # the next change tries again
                self.steer(self._wanted)
        return True

    @functools.cached_property
    def _where(self) -> Any:
        """The socket address, cached at the start through `address`."""
        return self._members[0].getsockname()

    def hold(self) -> None:
        """Begin no further TCP handshake; pending ones complete. Has no effect if the kernel refuses."""
        for sock in self.ending():
            with contextlib.suppress(handshakes.HandshakesError):
                handshakes.ignore(sock)

    def refuse(self) -> None:
        """Refuse new TCP connections: the sockets stop listening, in all processes that share them (shutdown(2))."""
        for sock in self.ending():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def ending(self) -> list[socket.socket]:
        """Return the TCP sockets that end with this supervisor."""
        is_stream = self._kind is ListenerKind.STREAM
        return self._members[self._passed :] if is_stream and self._is_ours else []

    def close(self) -> None:
        """Close all members; may be called twice."""
        if self._passed and self._is_ours and self._members:
            with contextlib.suppress(steering.SteeringError):  # their owner continues without our program
                self._spread()
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
        if self._members:
            return members.open_beside(self._members[0], self._backlog)
        assert isinstance(self._bind, TcpBind | UdpBind), "a passed group has members"
        return members.open_first(self._bind, self._backlog)

    def _explain(self, error: OSError, slots: int) -> BindError:
        if not self._passed:
            return explain_and_search(self._bind, error)
        count = len(self._members)
        return cannot_bind(
            self._bind,
            f"{self._passed} sockets of {self.address} were passed, and one for worker {count + 1} of {slots} cannot "
            f"be opened beside them ({(error.strerror or str(error)).lower()}); pass one for each worker, or use fewer "
            f"workers, or run as the same user that opened them",
        )
