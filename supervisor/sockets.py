"""All listening sockets of a service, opened before the first fork and held for the supervisor's life.

Every worker inherits all of them and polls its own: so a worker's death closes no queue, and what waits there is
answered by its successor.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from hybrid.supervisor.addresses import Bind, BindSyntaxError, FdBind, TcpBind, UdpBind, UnixBind, parse_bind
from hybrid.supervisor.binding import BindError, cannot_bind
from hybrid.supervisor.group import Group
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.shared import InheritedSocket, UnixSocket, systemd_binds
from hybrid.supervisor.steering import SteeringError
from hybrid.workers.contract.seat import Listener

__all__ = [
    "Bind",
    "BindError",
    "BindSyntaxError",
    "FdBind",
    "Listeners",
    "TcpBind",
    "UdpBind",
    "UnixBind",
    "open_listeners",
    "parse_bind",
    "systemd_binds",
]


def open_listeners(settings: Settings) -> Listeners:
    """Open all sockets that `settings` names, for all its workers. Raises `BindError`; then none is left open."""
    return Listeners(settings)


class Listeners:
    """The sockets of a service. As a context manager it closes them."""

    def __init__(self, settings: Settings) -> None:
        """Open them all. Raises `BindError`. Blocks while a host name is resolved."""
        self._settings = settings
        self._groups: list[Group] = []  # one per TCP and UDP address
        self._shared: list[UnixSocket | InheritedSocket] = []  # one per UNIX path and descriptor
        self.addresses: tuple[str, ...] = ()
        """The real addresses, in the order of the settings, as a person types them."""
        self._slots = settings.workers
        try:
            _refuse_twins(settings.binds)
            self.addresses = tuple(self._open(bind) for bind in settings.binds)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Listeners:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def all(self) -> tuple[Listener, ...]:
        """Return every socket of every slot that exists."""
        grouped = [listener for group in self._groups for listener in group.listeners]
        return (*grouped, *(one.listener for one in self._shared))

    def grow(self, slots: int) -> None:
        """Have sockets for at least `slots` slots; new ones get no connections until they are steered to.

        Raises `BindError`; what was there stays.
        """
        for group in self._groups:
            group.grow(slots)
        self._slots = max(self._slots, slots)

    def steer(self, slots: tuple[int, ...]) -> None:
        """Let new connections go to these slots only. Shared sockets have one queue, and nothing to steer.

        Raises `SteeringError` after it has tried every address.
        """
        failure: SteeringError | None = None
        for group in self._groups:
            try:
                group.steer(slots)
            except SteeringError as error:
                failure = error
        if failure is not None:
            raise failure

    def hold(self) -> None:
        """Let no further TCP handshake begin."""
        for group in self._groups:
            group.hold()

    def refuse(self) -> None:
        """Refuse new TCP connections from now on, also for workers that share the sockets."""
        for group in self._groups:
            group.refuse()

    def close(self) -> None:
        """Close all sockets and remove the files of UNIX ones; may be called twice."""
        for one in (*self._groups, *self._shared):
            one.close()
        self._groups.clear()
        self._shared.clear()

    def _open(self, bind: Bind) -> str:
        settings = self._settings
        match bind:
            case TcpBind() | UdpBind():
                group = Group(bind, settings.backlog)
                self._groups.append(group)
                group.grow(self._slots)
                return group.address
            case UnixBind():
                owner = (-1 if settings.uid is None else settings.uid, -1 if settings.gid is None else settings.gid)
                one: UnixSocket | InheritedSocket = UnixSocket(
                    bind, mode=settings.unix_mode, owner=owner, backlog=settings.backlog
                )
            case FdBind():
                one = InheritedSocket(bind)
        self._shared.append(one)
        return one.listener.address


def _refuse_twins(binds: Iterable[Bind]) -> None:
    seen: set[Bind] = set()
    for bind in binds:
        if bind in seen and getattr(bind, "port", None) != 0:
            raise cannot_bind(bind, "it is given twice")
        seen.add(bind)
