"""All listening sockets of a service, opened before the first fork and held for the supervisor's life.

Every worker inherits all of them and polls its own: so a worker's death closes no queue, and what waits there is
answered by its successor. A supervisor that replaces another begins with the sockets of that one (see `handover`).
"""

from __future__ import annotations

import select
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING

from hybrid.supervisor.listeners.addresses import Bind, BindSyntaxError, FdBind, TcpBind, UdpBind, UnixBind, parse_bind
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.group import Group
from hybrid.supervisor.listeners.shared import Inode, PassedSocket, UnixSocket, systemd_binds
from hybrid.supervisor.listeners.sources import Source, Sources, address_of
from hybrid.supervisor.listeners.steering import SteeringError
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.records import record
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, is_shut_down

if TYPE_CHECKING:
    from hybrid.supervisor.upgrade.inheritance import Inheritance

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


@record(frozen=True, slots=True)
class Waiting:
    """A queue that holds a connection which no worker has accepted yet."""

    slot: int | None
    """The slot whose worker polls it; None: all workers do."""
    ends: bool
    """Whether it ends with this supervisor, and the connection with it."""


@record(frozen=True, slots=True)
class Mended:
    """The outcome of `Listeners.mend`."""

    repaired: tuple[str, ...] = ()
    """The addresses of those that listen again."""
    failures: tuple[str, ...] = ()
    """Why others do not, for the log."""
    is_remade: bool = False
    """Whether some of them are new sockets, which no worker has yet."""


@record(frozen=True, slots=True)
class Offered:
    """What a successor is to know of one `--bind`."""

    bind: str
    fds: tuple[int, ...]
    """In order of slots. Of `fd://`: the passed one; the first of a group has the members opened beside them too."""
    slots: int
    """How many slots have had a worker; 0: it is shared by all slots. A group may have more members than that."""
    inode: Inode | None = None
    """The file of a UNIX socket."""
    order: tuple[int, ...] = ()
    """Of a group whose members are not in the order of slots; see `Order.told`."""


def open_listeners(settings: Settings, inheritance: Inheritance | None = None) -> Listeners:
    """Open all sockets that `settings` names, for all its workers, or take them from `inheritance`.

    Raises `BindError`; then none is left open.
    """
    return Listeners(settings, inheritance)


class Listeners:
    """The sockets of a service. As a context manager it closes them."""

    def __init__(self, settings: Settings, inheritance: Inheritance | None = None) -> None:
        """Open them all. Raises `BindError`.

        Blocks while a host name is resolved, and at most ten seconds until the predecessor has made sockets for the
        workers that it has not.
        """
        self._binds = settings.binds
        self._sources = Sources(settings, inheritance)
        self._lent: list[Source] = []  # those a successor has taken
        self.addresses: tuple[str, ...] = ()
        """The real addresses, in the order of the settings, as a person types them."""
        try:
            self._sources.open()
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
        """How many slots have sockets: as many as there are workers, or were at one time, also of a predecessor."""
        return self._sources.slots

    def all(self) -> tuple[Listener, ...]:
        """Return every socket of every slot that exists."""
        grouped = [listener for group in self._sources.groups for listener in group.listeners]
        return (*grouped, *(one.listener for one in self._sources.all if not isinstance(one, Group)))

    def grow(self, slots: int) -> None:
        """Have sockets for at least `slots` slots; new ones get no connections until they are steered to.

        Raises `BindError`; what was there stays. So it does while the sockets are a predecessor's.
        """
        for group in self._sources.groups:
            group.grow(slots)
        self._sources.slots = max(self._sources.slots, slots)

    def steer(self, slots: tuple[int, ...], datagrams: tuple[int, ...] | None = None) -> None:
        """Let new connections go to these slots only, and datagrams to `datagrams` (None: to the same).

        Shared sockets have one queue, and nothing to steer. Sockets that are a predecessor's are steered once they are
        ours; those lent to a successor if it gives them back. Raises `SteeringError` after it has tried every address.
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
        """Let no further client in: no TCP handshake begins, and the files of UNIX sockets are gone.

        Leaves out sockets of a predecessor or a successor, and those that were passed to this process.
        """
        for source in self._sources.all:
            if not isinstance(source, PassedSocket):
                source.hold()

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the queues that hold connections, but for those that a successor has taken. Never blocks."""
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
        return tuple(found[fd] for fd, events in poll.poll(0) if events & select.POLLIN)

    def mend(self) -> Mended:
        """Repair sockets that a worker has shut down, which all processes share. Leaves out as `hold` does.

        To be called while the service goes on. Never blocks.
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
        """Refuse new connections from now on, also for workers that share the sockets. Leaves out as `hold` does."""
        for source in self._sources.all:
            if not isinstance(source, PassedSocket):
                source.refuse()

    def close(self) -> None:
        """Close all sockets and remove the files of UNIX ones that are ours; may be called twice."""
        for one in self._sources.all:
            one.close()
        self._sources.all.clear()
        self._lent.clear()

    # --- for a successor

    def offer(self) -> tuple[Offered, ...]:
        """Return what a successor may take, in the order of the settings."""
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
        """Open sockets for the workers of a successor that has more of them; they get no connections here.

        Raises `BindError`; what was opened stays, for the next successor.
        """
        for group in self._sources.groups:
            group.reserve(slots)

    def lend(self, taken: Collection[int]) -> None:
        """Keep our hands off what a successor has taken: the addresses with these numbers in the settings."""
        chosen = [self._sources.by_bind[index] for index in sorted(taken) if 0 <= index < len(self._sources.by_bind)]
        for source in dict.fromkeys(chosen):
            if not isinstance(source, PassedSocket):
                source.lend()
            self._lent.append(source)

    def leave(self) -> None:
        """Close what was lent: the descriptors, and nothing else. The rest ends by `hold`, `refuse` and `close`."""
        for source in self._lent:
            self._sources.all.remove(source)
            source.close()
        self._lent.clear()

    # --- of a predecessor

    def take_over(self) -> tuple[str, ...]:
        """Make ours what was a predecessor's, or what a successor that has failed gives back; steer it as last told.

        Returns what could not be done, for the log: the sockets serve in any case. Never blocks.
        """
        self._lent.clear()
        remarks: list[str] = []
        self._sources.add_members()
        for source in self._sources.all:
            try:
                if not isinstance(source, PassedSocket):
                    source.take_over()
            except SteeringError as error:
                remarks.append(str(error))
            except OSError as error:
                remarks.append(f"cannot change {address_of(source)}: {(error.strerror or str(error)).lower()}")
        return tuple(remarks)
