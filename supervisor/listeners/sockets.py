"""All listening sockets of a service, opened before the first fork and held for the supervisor's life.

Every worker inherits all of them and polls its own. So the death of a worker closes no queue, and its successor serves
the queued connections. A supervisor that replaces another starts with its sockets (see `handover`).
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from hybrid.supervisor.listeners.addresses import Bind, BindSyntaxError, FdBind, TcpBind, UdpBind, UnixBind, parse_bind
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.group import Group
from hybrid.supervisor.listeners.passing import PassingQueues
from hybrid.supervisor.listeners.shared import Inode, PassedSocket, UnixSocket, systemd_binds
from hybrid.supervisor.listeners.sources import Source, Sources, address_of
from hybrid.supervisor.listeners.steering import SteeringError
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.records import record
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, is_shut_down

if TYPE_CHECKING:
    from hybrid.supervisor.upgrade.inheritance import Share

__all__ = [
    "Bind",
    "BindError",
    "BindSyntaxError",
    "FdBind",
    "Listeners",
    "Offered",
    "TcpBind",
    "UdpBind",
    "UnixBind",
    "open_listeners",
    "parse_bind",
    "systemd_binds",
]


logger = logging.getLogger(LOGGER_NAME)


@record(frozen=True, slots=True)
class Waiting:
    """A queue with connections that no worker has accepted yet."""

    slot: int | None
    """The slot that polls it; None: all workers do."""
    ends: bool
    """True if the queue ends with this supervisor, and its connections too."""


@record(frozen=True, slots=True)
class Mended:
    """The outcome of `Listeners.mend`."""

    repaired: tuple[str, ...] = ()
    """Addresses that listen again."""
    failures: tuple[str, ...] = ()
    """Why others do not, for the log."""
    is_remade: bool = False
    """True if some are new sockets, which no worker has yet."""


@record(frozen=True, slots=True)
class Offered:
    """The data of one `--bind` for a successor."""

    bind: str
    fds: tuple[int, ...]
    """In order of slots. For `fd://`: the passed one; the first of a group also has the members opened later."""
    slots: int
    """How many slots ever had a worker; 0: all slots share it. A group may have more members than that."""
    inode: Inode | None = None
    """The file of a UNIX socket."""
    order: tuple[int, ...] = ()
    """For a group whose members are not in the order of slots; see `Order.told`."""
    service: str = ""
    """The service that it belongs to."""


def open_listeners(settings: Settings, inheritance: Share | None = None) -> Listeners:
    """Open all sockets that `settings` names, for all its workers, or take them from `inheritance`.

    Raises `BindError`; then none is left open.
    """
    return Listeners(settings, inheritance)


class Listeners:
    """The sockets of a service. As a context manager it closes them."""

    def __init__(self, settings: Settings, inheritance: Share | None = None) -> None:
        """Open them all. Raises `BindError`.

        Blocks while a host name is resolved, and up to ten seconds while the predecessor opens additional sockets.
        """
        self._binds = settings.binds
        self._sources = Sources(settings, inheritance)
        self._passing = PassingQueues()
        self._passes = settings.balance != "off" and any(not isinstance(bind, UdpBind) for bind in settings.binds)
        self._lent: list[Source] = []  # sources taken by a successor
        self.addresses: tuple[str, ...] = ()
        """The real addresses, in the order of the settings, as a user types them."""
        try:
            self._sources.open()
            self._grow_passing()
        except BaseException:
            self.close()
            raise
        self.addresses = tuple(dict.fromkeys(address_of(source) for source in self._sources.by_bind))

    def __enter__(self) -> Listeners:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """How many slots have sockets: the highest number of workers so far, including a predecessor's."""
        return self._sources.slots

    def all(self) -> tuple[Listener, ...]:
        """Return every socket of every slot that exists."""
        grouped = [listener for group in self._sources.groups for listener in group.listeners]
        shared = (one.listener for one in self._sources.all if not isinstance(one, Group))
        return (*grouped, *shared, *self._passing.listeners)

    def streams(self) -> Iterator[tuple[str, int | None, socket.socket]]:
        """Yield the address, the slot (None: all) and the socket of each listening stream socket.

        Makes no system call.
        """
        for source in self._sources.all:
            address = address_of(source)
            if isinstance(source, Group):
                if source.kind is ListenerKind.STREAM:
                    yield from ((address, slot, sock) for slot, sock in source.by_slot)
            elif source.listener.kind is ListenerKind.STREAM:
                yield address, source.listener.slot, source.listener.sock

    def grow(self, slots: int) -> None:
        """Have sockets for at least `slots` slots; new ones get no connections before `steer`.

        Raises `BindError`, also while a predecessor owns the sockets; existing sockets stay.
        """
        for group in self._sources.groups:
            group.grow(slots)
        self._sources.slots = max(self._sources.slots, slots)
        self._grow_passing()

    def _grow_passing(self) -> None:
        """Have a queue of passed connections for each slot; without one, a slot keeps what it accepts."""
        if self._passes:
            try:
                self._passing.grow(self._sources.slots)
            except OSError as error:
                self._passes = False
                logger.warning("connections are not balanced: %s", error.strerror)

    def steer(self, slots: tuple[int, ...], datagrams: tuple[int, ...] | None = None) -> None:
        """Direct new connections to these slots, and datagrams to `datagrams` (None: to the same).

        Shared sockets have one queue, and nothing to steer. Sockets of a predecessor are steered once they are ours,
        and lent ones once a failed successor returns them. Raises `SteeringError` after trying every address.
        """
        failure: SteeringError | None = None
        for group in self._sources.groups:
            is_stream = datagrams is None or group.kind is ListenerKind.STREAM
            try:
                group.steer(slots if is_stream else datagrams or ())
            except SteeringError as error:
                failure = error
        if failure is not None:
            raise failure

    def hold(self) -> None:
        """Let in no further clients: begin no TCP handshake, and remove the files of UNIX sockets.

        Skips the sockets of a predecessor or a successor, and those passed to this process.
        """
        for source in self._sources.all:
            if not isinstance(source, PassedSocket):
                source.hold()

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the queues with connections, except those of a successor. Never blocks."""
        poll = select.poll()
        found: dict[int, Waiting] = {}  # descriptor -> the answer if it is readable
        for source in self._sources.all:
            listeners = source.listeners if isinstance(source, Group) else [source.listener]
            ending = set() if isinstance(source, PassedSocket) else {sock.fileno() for sock in source.ending()}
            for listener in listeners:
                fd = listener.sock.fileno()
                if listener.kind is ListenerKind.STREAM and not is_shut_down(listener.sock):
                    found[fd] = Waiting(listener.slot, ends=fd in ending)
                    poll.register(fd, select.POLLIN)
        for listener in self._passing.listeners:
            found[listener.sock.fileno()] = Waiting(listener.slot, ends=True)
            poll.register(listener.sock.fileno(), select.POLLIN)
        return tuple(found[fd] for fd, events in poll.poll(0) if events & select.POLLIN)

    def mend(self) -> Mended:
        """Repair sockets that a worker has shut down, which all processes share. Skips the same sockets as `hold`.

        Call it while the service runs. Never blocks.
        """
        repaired: list[str] = []
        failures: list[str] = []
        is_remade = False
        for source in self._sources.all:
            try:
                if source.mend():
                    repaired.append(address_of(source))
                    is_remade = is_remade or isinstance(source, UnixSocket)
            except BindError as error:
                failures.append(str(error))
        return Mended(tuple(repaired), tuple(failures), is_remade)

    def refuse(self) -> None:
        """Refuse new connections, also for workers that share the sockets. Skips the same sockets as `hold`."""
        for source in self._sources.all:
            if not isinstance(source, PassedSocket):
                source.refuse()

    def close(self) -> None:
        """Close all sockets and remove the files of our UNIX sockets; may be called twice."""
        for one in self._sources.all:
            one.close()
        self._sources.all.clear()
        self._lent.clear()
        self._passing.close()

    def close_in_child(self) -> None:
        """Close the descriptors in a fork that does not serve them; other processes notice nothing."""
        for listener in self.all():
            listener.sock.close()

    # --- for a successor

    def offer(self) -> tuple[Offered, ...]:
        """Return the sockets for a successor, in the order of the settings."""
        return tuple(self._offered(index) for index in range(len(self._sources.by_bind)))

    def _offered(self, index: int) -> Offered:
        bind, source = self._binds[index], self._sources.by_bind[index]
        match source:
            case UnixSocket():
                return Offered(str(bind), (source.listener.sock.fileno(),), 0, source.inode)
            case PassedSocket():
                return Offered(str(bind), (source.sock.fileno(),), 0)
            case Group():
                fds = tuple(sock.fileno() for sock in source.sockets)
                if not isinstance(bind, FdBind):
                    return Offered(str(bind), fds, self._sources.slots, order=source.order.told)
                is_first = self._sources.by_bind.index(source) == index
                rest = fds[source.passed_count :] if is_first else ()
                return Offered(str(bind), (bind.fd, *rest), self._sources.slots, order=source.order.told)

    def reserve(self, slots: int) -> None:
        """Open sockets for a successor with more workers; they get no connections here.

        Raises `BindError`; opened sockets stay for the next successor.
        """
        for group in self._sources.groups:
            group.reserve(slots)

    def lend(self, taken: Collection[int]) -> None:
        """Leave the addresses at these indexes of the settings to a successor."""
        chosen = [self._sources.by_bind[index] for index in sorted(taken) if 0 <= index < len(self._sources.by_bind)]
        for source in dict.fromkeys(chosen):
            if not isinstance(source, PassedSocket):
                source.lend()
            self._lent.append(source)

    def leave(self) -> None:
        """Close the descriptors of lent sockets, and nothing else. The others end by `hold`, `refuse` and `close`."""
        for source in self._lent:
            self._sources.all.remove(source)
            source.close()
        self._lent.clear()

    # --- of a predecessor

    def take_over(self) -> tuple[str, ...]:
        """Own the sockets of a predecessor, or those that a failed successor returns; steer them as last told.

        Returns problems for the log; the sockets serve in any case. Never blocks.
        """
        self._lent.clear()
        remarks: list[str] = []
        self._sources.add_members()
        self._grow_passing()
        for source in self._sources.all:
            try:
                if not isinstance(source, PassedSocket):
                    source.take_over()
            except SteeringError as error:
                remarks.append(str(error))
            except OSError as error:
                remarks.append(f"cannot change {address_of(source)}: {(error.strerror or str(error)).lower()}")
        return tuple(remarks)
