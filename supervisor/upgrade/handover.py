"""The old supervisor's side of an upgrade: it executes the program again and passes the listening sockets.

The successor is another process, not a child of ours. It starts its own workers on the same sockets and reports when
they serve. Then it owns the sockets, and the workers here drain. Until then, a failure of it changes nothing here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import socket
import subprocess
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from hybrid.supervisor.core.machine import MAX_WORKERS
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.estate import Estate
from hybrid.supervisor.listeners.sockets import Offered
from hybrid.supervisor.upgrade.inheritance import (
    FILE_NAME,
    FORM,
    CannotInherit,
    Inheritance,
    Ledgers,
    Scale,
    inherited_binds,
)
from hybrid.supervisor.upgrade.invocation import HANDOVER_VARIABLE, Invocation
from hybrid.supervisor.upgrade.wire import (
    MOST_DESCRIPTORS,
    Cannot,
    Grant,
    Granted,
    PeerLink,
    PeerMessage,
    Serving,
    Taken,
    Want,
    WireError,
    Yours,
)
from hybrid.workers.contract.records import record

__all__ = ["CannotInherit", "CannotOffer", "Failed", "Inheritance", "Invocation", "Offer", "inherited_binds"]


class CannotOffer(Exception):  # noqa: N818 - a state of the system, not a bug
    """A successor cannot be started; the text says why, and what to do."""


@record(frozen=True, slots=True)
class Failed:
    """The successor failed; this supervisor still owns everything."""

    reason: str


class Offer:
    """The sockets, offered to a successor that is starting. Only `begin` blocks, while execve(2) runs."""

    def __init__(self, estate: Estate, pid: int, link: PeerLink) -> None:
        self.pid = pid
        """Process id of the successor, which is not our child: systemd drains a main process only if it is its own."""
        self._estate = estate
        self._link = link
        self._handed = [len(entry.fds) for entry in estate.offer()]  # how many descriptors it has of each address
        self._is_lent = False  # the successor owns the sockets, but may still fail
        self._is_over = False

    @classmethod
    def begin(
        cls,
        estate: Estate,
        program: Invocation,
        extra_environment: Mapping[str, str],
        scales: Mapping[str, Scale] | None = None,
        ledgers: Ledgers = Ledgers(),  # noqa: B008 - frozen
    ) -> Offer:
        """Execute `program` with the sockets of `estate`; pass it the `scales` of our services and `ledgers`.

        Raises `CannotOffer` if it could not be executed. The successor stays in our process group, so Ctrl-C in a
        terminal reaches both. It survives the end of this process.
        """
        if os.getpid() == 1:
            raise CannotOffer(
                "this supervisor is PID 1, and the container would end with it: replace the container, "
                "or start hybrid under an init (docker run --init)"
            )
        if not program.executable:
            raise CannotOffer("the path of this program's Python interpreter is not known (sys.executable)")
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise CannotOffer(f"cannot make a socket pair to a successor: {(error.strerror or '').lower()}") from error
        try:
            with theirs:
                pid = _execute(estate, program, extra_environment, theirs.fileno(), scales or {}, ledgers)
        except OSError as error:
            ours.close()
            raise CannotOffer(_why_not_executed(program, error)) from error
        return cls(estate, pid, PeerLink(ours))

    def fileno(self) -> int:
        """Return the descriptor to poll for `poll_nowait`; -1 once closed. Workers must close it."""
        return self._link.fileno()

    def poll_nowait(self) -> Literal["pending", "serving"] | Failed:
        """Handle the messages of the successor.

        `serving`: it serves, steers and owns the files; `leave` the listeners and drain. `Failed`: it will not serve.
        """
        try:
            while (received := self._link.receive_nowait()) is not None:
                message, _ = received
                if self._is_last(message):
                    return "serving"
        except WireError as error:
            return self._fail(str(error))
        return "pending"

    def withdraw(self) -> bool:
        """Tell the successor to end, because this supervisor must stop; return False if it has taken over already.

        It ends by itself unless it hangs; then it needs a signal. If it has taken over, `leave` the listeners.
        """
        if self._is_lent:
            return False
        self._link.shut_down()
        return True

    def close(self) -> None:
        """Close the link and nothing else; may be called twice. Called in forked children too."""
        self._link.close()

    def _is_last(self, message: PeerMessage) -> bool:
        """Handle a message of the successor; return True if it was the last one."""
        match message:
            case Want(slots, service):
                self._grant(slots, service)
            case Serving(taken) if not self._is_lent:
                self._send_new_members()
                self._is_lent = True
                self._estate.lend(taken)
                self._link.send(Yours())
            case Taken() if self._is_lent:
                self._is_over = True
                return True
            case _:
                raise WireError(f"the other supervisor sent {type(message).__name__} out of turn")
        return False

    def _grant(self, slots: int, service: str) -> None:
        try:
            if not 1 <= slots <= MAX_WORKERS:
                raise BindError(f"{slots} workers are not between 1 and {MAX_WORKERS}")
            self._estate.reserve(service, slots)
        except BindError as error:
            self._link.send(Cannot(str(error)))
        else:
            self._send_new_members()
            self._link.send(Granted())

    def _send_new_members(self) -> None:
        """Send the members opened since the last time; groups only grow."""
        now = [entry.fds for entry in self._estate.offer()]
        new = [(number, fd) for number, fds in enumerate(now) for fd in fds[self._handed[number] :]]
        for batch in _batches(new):
            self._link.send(Grant(tuple(number for number, _ in batch)), [fd for _, fd in batch])
        self._handed = [len(fds) for fds in now]

    def _fail(self, reason: str) -> Failed:
        self._link.shut_down()
        if self._is_lent and not self._is_over:
            self._is_lent = False
            reason = "; ".join((reason, *self._estate.take_over()))
        return Failed(reason)


def _why_not_executed(program: Invocation, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.filename == program.directory:  # `subprocess` names it if chdir(2) failed
        return (
            f"cannot enter the directory that this program was started in, {program.directory}: {reason}; "
            "make it again, or restart the service in another one"
        )
    return f"cannot execute {error.filename or program.executable}: {reason}"


def _execute(
    ours: Estate,
    program: Invocation,
    extra: Mapping[str, str],
    link_fd: int,
    scales: Mapping[str, Scale],
    ledgers: Ledgers,
) -> int:
    """Start the successor; return its pid. Raises `OSError`, also if it cannot be executed."""
    offered = ours.offer()
    estate = {
        "form": FORM,
        "predecessor": os.getpid(),
        "line": link_fd,
        "entries": [_described(entry) for entry in offered],
        "scales": {name: dataclasses.asdict(scale) for name, scale in scales.items()},
        **ledgers.described(),
    }
    with _memory_file(json.dumps(estate).encode("ascii")) as memfd:
        environment = {**program.environment, **extra, HANDOVER_VARIABLE: str(memfd)}
        inherited = (link_fd, memfd, *ledgers.fds, *(fd for entry in offered for fd in entry.fds))
        return _execute_as_orphan(program, environment, inherited)


def _described(entry: Offered) -> dict[str, object]:
    """Return an entry for JSON, without `order` if that is empty: older versions do not know it."""
    described = dataclasses.asdict(entry)
    if not entry.order:
        del described["order"]
    return described


def _execute_as_orphan(program: Invocation, environment: Mapping[str, str], inherited: Sequence[int]) -> int:
    """Execute `program` in a grandchild, which is orphaned at once; return its pid. Raises `OSError`."""
    read, write = os.pipe2(os.O_CLOEXEC)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # until the child has reset our handlers
    try:
        intermediate = os.fork()
        if intermediate == 0:
            os._exit(_be_intermediate(program, environment, inherited, mask, write))
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with os.fdopen(read, "rb") as pipe:
        outcome = json.loads(pipe.read() or "[5, null]")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(intermediate, 0)
    if isinstance(outcome, int):
        return outcome
    number, name = outcome
    raise OSError(number, os.strerror(number), name)


def _be_intermediate(
    program: Invocation, environment: Mapping[str, str], inherited: Sequence[int], mask: Iterable[int], write: int
) -> int:
    """Execute the program and write its pid, or the errno and file name, to `write`; return the exit code."""
    try:
        signal.set_wakeup_fd(-1)  # the supervisor shares it, and would take our signals for its own
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        process = subprocess.Popen(
            [program.executable, *program.arguments], cwd=program.directory, env=environment, pass_fds=inherited
        )
        os.write(write, str(process.pid).encode())
    except OSError as error:
        os.write(write, json.dumps([error.errno or 5, error.filename]).encode())
        return 1
    except BaseException:  # noqa: BLE001 - must not return into the supervisor's code
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create(FILE_NAME)
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def _batches(items: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, MOST_DESCRIPTORS)):
        yield batch
