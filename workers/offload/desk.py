"""The desk: a worker's side of a queue of calls. It sends each to the workers of a pool, and hears of its end.

    desk --connect, send--> [ socket that listens, of this generation ] <--accept, run, answer-- offload workers

A call is one connection, and the kernel has the queue: calls that wait there outlive any offload worker. The connection
ends with an answer, or without:

    an answer             the outcome
    the end of the stream the call was read, and its process has died: it is not sent again unless asked for
    ECONNRESET            it was never read: it is sent again
    EAGAIN at connect(2)  the queue is full, and nothing will report when it is not: it is tried again soon
    ECONNREFUSED          nobody listens: the offload workers start with the first call

The connections are watched by an epoll(7) of the desk, and the loop watches that: for each call `add_reader` and
`remove_reader` of a loop cost 28 us on `epoll`, 7 us on `uvloop`; this costs 3 us. The task that awaits a call is
stepped in the callback that reads the answer, without another turn of the loop. Benchmark: `python -m benchmarks
offload`.

All belongs to the loop's thread, but for what threads hand over by `call_soon_threadsafe`.
"""

from __future__ import annotations

import _socket
import asyncio
import collections
import contextlib
import enum
import errno
import logging
import select
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final

from hybrid.workers.contract import log
from hybrid.workers.contract.messages import CallDied, CallOverdue, Message, OffloadAsked
from hybrid.workers.contract.scoreboard import CALL_RAN, CALL_SECONDS, OUTCOMES, UNDERWAY, CallRecord
from hybrid.workers.offload import letters
from hybrid.workers.offload.errors import OffloadDied, OffloadError, OffloadQueueFull, OffloadTimeout, RemoteTraceback
from hybrid.workers.offload.job import Job, Outcome, cancelled_error
from hybrid.workers.offload.packing import Packed
from hybrid.workers.offload.settings import PoolSettings

MOST_SENT: Final = 64
"""Calls of one worker that are in the kernel's queue or run; further ones wait in the worker."""
_REMIND: Final = 0.1  # seconds for a cancelled call to end; then it is interrupted again
_REMINDERS: Final = 10  # then its process is killed
_INQUEST: Final = 1.0  # seconds for the supervisor to tell how a process has died
_PAUSES: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05)  # seconds between two tries
_ASKED_AGAIN: Final = 5.0  # seconds without offload workers until the supervisor is asked for them again
_PATIENCE: Final = 10.0  # seconds without offload workers until calls run without them
_COMPLAINT: Final = 60.0  # seconds between two lines of the log about a lack of descriptors or memory
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_AGAIN: Final = frozenset({errno.EAGAIN, errno.EPIPE, errno.ECONNRESET})  # the latter: the queue has just been closed
_COUNTED: Final = {
    outcome: OUTCOMES + number
    for number, outcome in enumerate(
        (Outcome.DONE, Outcome.RAISED, Outcome.DIED, Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.FAILED)
    )
}
_get_ident = log.unpatched("get_ident", "_thread")
_READABLE: Final = select.EPOLLIN

_log = logging.getLogger("hybrid")


class _Phase(enum.Enum):
    """Where a call is."""

    WAITS = "waits"
    """In this process."""
    SENT = "sent"
    """In the kernel's queue, or it runs."""
    GIVEN_UP = "given up"
    """Nobody waits for its outcome any more, but it may still run."""
    DEAD = "dead"
    """Its process has died, and the supervisor has not told how."""
    SUBSTITUTED = "substituted"
    """It runs in a process of its own, because there are no offload workers."""
    OVER = "over"


_ON_THEIR_WAY: Final = frozenset({_Phase.SENT, _Phase.GIVEN_UP})


class _Call:
    """A call on its way."""

    __slots__ = ("began", "death", "job", "key", "packed", "phase", "retries", "sock", "substitute", "timer")

    def __init__(self, job: Job[Any], packed: Packed, key: int, retries: int) -> None:
        self.job = job
        self.packed: Packed | None = packed
        self.key = key
        self.retries = retries
        self.phase = _Phase.WAITS
        self.sock: _socket.socket | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.began = monotonic()
        self.death: CallDied | None = None
        self.substitute: Job[Any] | None = None


class Desk:
    """Sends calls to the offload workers of one pool. A process that serves makes it at its first call to that."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: bytes,
        tell: Callable[[Message], object],
        record: CallRecord,
        pool: PoolSettings,
        keys: Iterator[int],
    ) -> None:
        """`address`: where calls of this generation to this pool are queued. `tell` sends a message to the supervisor.

        `keys`: names for calls, each of which no other call of this process has.
        """
        self.loop: asyncio.AbstractEventLoop | None = loop
        self._loop = loop
        self._thread = _get_ident()
        self._address = address
        self._tell = tell
        self._record = record
        self._pool = pool
        self._most_waiting = pool.queue
        self._keys = keys
        self._calls: dict[int, _Call] = {}  # by key
        self._of_jobs: dict[Job[Any], _Call] = {}
        self._waiting: collections.OrderedDict[_Call, None] = collections.OrderedDict()  # any may be cancelled
        self._epoll: select.epoll | None = None  # made with the first call
        self._watched: dict[int, _Call] = {}  # by the descriptor of its connection
        self._tries = 0  # in vain, in a row
        self._retry: asyncio.TimerHandle | None = None
        self._asked = float("-inf")  # when the supervisor was asked for offload workers
        self._refused: float | None = None  # since when nobody listens; None: somebody does
        self._complained = float("-inf")  # when a lack of descriptors or memory was logged
        self._receiver = letters.Receiver()
        self._room: list[Callable[[], object]] = []  # called once a call may wait again
        self._is_closed = False

    # -- for those who call ------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """True if as many calls wait as may."""
        return len(self._waiting) >= self._most_waiting

    @property
    def sent(self) -> int:
        """Calls that are in the kernel's queue or run."""
        return len(self._watched)

    def when_room(self, callback: Callable[[], object]) -> None:
        """Call back once a call may wait again; from the loop's thread.

        What is called back and does not submit a call then looks again at `is_full`.
        """
        if self.is_full:
            self._room.append(callback)
        else:
            callback()

    def needs_no_room(self, callback: Callable[[], object]) -> None:
        """Forget who waits for room; if it has been called back already, the next one gets its room."""
        if callback in self._room:
            self._room.remove(callback)
        else:
            self._give_room()

    def submit(self, job: Job[Any], packed: Packed, timeout: float | None, retries: int) -> None:
        """Send a call, or let it wait. Call it in the loop's thread; does not block."""
        if job.done():  # cancelled on its way here
            return
        if self._is_closed:
            job.ends(Outcome.CANCELLED, error=cancelled_error(job))
            return
        call = _Call(job, packed, next(self._keys), retries)
        self._calls[call.key] = self._of_jobs[job] = call
        self._show()
        if timeout:
            call.timer = self._loop.call_later(timeout, self._timed_out, call, timeout)
        self._waiting[call] = None
        self._send_waiting()

    def refuses(self, name: str) -> OffloadQueueFull:
        """Return the error for a call that must not wait."""
        return OffloadQueueFull(
            f"{name} is not run: {len(self._waiting)} calls wait already ({self._pool.option('queue')})"
        )

    def cancel(self, job: Job[Any]) -> None:
        """End a job: now in the loop's thread, soon in others. Does not block."""
        if _get_ident() == self._thread:
            self._cancel(job)
        else:  # what waits for the job is woken in the loop's thread only
            with contextlib.suppress(RuntimeError):  # the loop is closed, and `close` has ended the job
                self._loop.call_soon_threadsafe(self._cancel, job)

    def hear(self, message: CallDied) -> None:
        """The supervisor tells how a process has died."""
        call = self._calls.get(message.key)
        if call is None:
            return
        call.death = message
        if call.phase is _Phase.DEAD:
            self._bury(call)
        elif call.phase in _ON_THEIR_WAY:  # a process that the call has forked may hold the connection open
            self._loop.call_later(_INQUEST, self._presume_dead, call, message)

    def close(self) -> None:
        """End all calls, also those that wait for room: the worker ends."""
        self._is_closed = True
        for call in list(self._calls.values()):
            call.job.ends(Outcome.CANCELLED, error=cancelled_error(call.job))
            self._forget(call)
        self._waiting.clear()
        if self._retry is not None:
            self._retry.cancel()
        while self._room:
            self._room.pop(0)()
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send_waiting(self) -> None:
        """Send as many as may be sent."""
        while self._waiting and len(self._watched) < MOST_SENT:
            call = next(iter(self._waiting))
            if not self._send(call):
                self._try_later()
                break
            del self._waiting[call]
            self._tries = 0
        if self._room:
            self._give_room()

    def _give_room(self) -> None:
        """Call back as many as there is room for: greenlets submit their calls only later."""
        for _ in range(min(len(self._room), self._most_waiting - len(self._waiting))):
            if not self._room or self.is_full:  # a thread's call is submitted at once
                break
            self._room.pop(0)()

    def _send(self, call: _Call) -> bool:
        """Send a call; return False if that is not possible now. A call that cannot be sent at all fails."""
        assert call.packed is not None, "a call that waits is packed"
        sock: _socket.socket | None = None
        try:
            sock = letters.new_socket(_socket.SOCK_NONBLOCK)
            sock.connect(self._address)
            self._watch(sock, call)  # while the offload worker wakes up
            letters.send(sock, letters.CALL, call.key, call.packed)
        except OSError as error:
            if sock is not None:
                self._drop(sock)
            if error.errno == errno.ECONNREFUSED:
                return self._is_refused(call)
            if error.errno in _SHORT:
                self._complain(error)
            elif error.errno not in _AGAIN:
                self._end(call, Outcome.FAILED, OffloadError(f"{call.job.name} cannot be sent: {error}"))
                return True
            return False
        call.sock = sock
        call.phase = _Phase.SENT
        self._refused = None
        return True

    def _watch(self, sock: _socket.socket, call: _Call) -> None:
        """Hear of what comes on a connection. Raises `OSError`."""
        if self._epoll is None:
            self._epoll = log.unpatched("epoll")()
            self._loop.add_reader(self._epoll.fileno(), self._hear)
        self._epoll.register(sock.fileno(), _READABLE)
        self._watched[sock.fileno()] = call

    def _drop(self, sock: _socket.socket) -> None:
        """Close a connection."""
        fd = sock.fileno()
        if self._watched.pop(fd, None) is not None and self._epoll is not None:
            with contextlib.suppress(FileNotFoundError):  # its answer waits, see `_hear_again`
                self._epoll.unregister(fd)  # a process that a handler has forked may have it: it would be watched on
        sock.close()

    def _is_refused(self, call: _Call) -> bool:
        """Nobody listens. Ask the supervisor for offload workers; in the end, have the call run without them.

        Returns True if the call is on its way.
        """
        now = monotonic()
        if now - self._asked >= _ASKED_AGAIN:
            self._asked = now
            self._tell(OffloadAsked(self._pool.name))
        if self._refused is None:
            self._refused = now
        if now - self._refused < _PATIENCE:
            return False
        from hybrid.workers.offload import alone  # rare: e.g. those of a generation that drains have all died

        packed = call.packed
        assert packed is not None, "a call that waits is packed"
        limit, option = self._pool.max_result, self._pool.option("max_result")
        substitute = alone.submit(packed, call.job.name, 0, call.retries, max_result=limit, option=option)
        call.phase = _Phase.SUBSTITUTED
        call.substitute = substitute
        substitute.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._substituted, call))
        return True

    def _substituted(self, call: _Call) -> None:
        """A call has ended that ran without offload workers."""
        substitute = call.substitute
        if substitute is not None and call.phase is _Phase.SUBSTITUTED:
            error = substitute.exception()
            self._end(call, substitute.outcome, error, None if error is not None else substitute.result())

    def _complain(self, error: OSError) -> None:
        now = monotonic()
        if now - self._complained >= _COMPLAINT:  # the next call may be sent, and the one after it not
            self._complained = now
            what = "receive the result of" if isinstance(error, letters.NoDescriptor) else "send"
            _log.warning("cannot %s offloaded calls, trying again: %s", what, error.strerror)

    def _try_later(self) -> None:
        if self._retry is None:
            pause = _PAUSES[min(self._tries, len(_PAUSES) - 1)]
            self._tries += 1
            self._retry = self._loop.call_later(pause, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._send_waiting()

    # -- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Some connections have an answer, or have ended."""
        assert self._epoll is not None, "the loop watches it"
        for fd, _ in self._epoll.poll(0, MOST_SENT):
            call = self._watched.get(fd)  # None: the application has done something that ended it, see `_answered`
            if call is not None:
                self._hear_of(call)

    def _hear_of(self, call: _Call) -> None:
        """The connection of a call has an answer, or has ended."""
        assert call.sock is not None, "it is watched until it is closed"
        try:
            letter = self._receiver.receive(call.sock, keeps=True)
        except BlockingIOError:
            return
        except letters.NoDescriptor as error:  # the answer waits
            self._complain(error)
            if self._epoll is not None:
                self._epoll.unregister(call.sock.fileno())
                self._loop.call_later(_PAUSES[-1], self._hear_again, call, call.sock)
            return
        except ConnectionResetError:
            self._never_read(call)
        except (letters.BadLetter, OSError) as error:
            self._end(call, Outcome.FAILED, OffloadError(f"{call.job.name}: the answer cannot be read: {error}"))
        else:
            if letter is None:
                self._died(call)
            else:
                self._answered(call, letter)
        if self._waiting or self._room:
            self._send_waiting()

    def _hear_again(self, call: _Call, sock: _socket.socket) -> None:
        """Watch the connection of a call again whose answer had no room."""
        if call.sock is sock and self._epoll is not None:
            self._epoll.register(sock.fileno(), _READABLE)

    def _answered(self, call: _Call, letter: letters.Letter) -> None:
        """End a call with its answer. What waits for it goes on before this returns, and may do anything."""
        self._record.times[CALL_RAN] += letter.ran
        if call.phase is _Phase.GIVEN_UP:
            self._forget(call)
            return
        try:
            answer = letter.load()
        except BaseException as error:  # noqa: BLE001 - code of the application's classes
            failed = OffloadError(f"the outcome of {call.job.name} cannot be loaded: {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._end(call, Outcome.FAILED, failed)
            return
        if letter.kind == letters.RESULT:
            self._end(call, Outcome.DONE, value=answer, at_once=True)
        elif letter.kind == letters.RAISED:
            raised, text = answer
            raised.__cause__ = RemoteTraceback(text)
            self._end(call, Outcome.RAISED, raised, at_once=True)
        else:
            text, trace = answer
            failed = OffloadError(f"{call.job.name}: {text}")
            if trace:
                failed.__cause__ = RemoteTraceback(trace)
            self._end(call, Outcome.FAILED, failed)

    def _never_read(self, call: _Call) -> None:
        """Send a call again that was not read; it keeps its place before those that wait."""
        if call.phase is _Phase.GIVEN_UP:
            self._forget(call)
            return
        self._release(call)
        call.phase = _Phase.WAITS
        self._waiting[call] = None
        self._waiting.move_to_end(call, last=False)

    def _died(self, call: _Call) -> None:
        """The process has died with the call. The supervisor is about to tell how."""
        self._release(call)
        if call.phase is _Phase.GIVEN_UP:
            self._forget(call)
        elif call.retries > 0:
            call.retries -= 1
            call.phase = _Phase.WAITS
            self._rename(call)
            self._waiting[call] = None
        else:
            call.phase = _Phase.DEAD
            if call.death is not None:
                self._bury(call)
            else:
                self._loop.call_later(_INQUEST, self._bury, call)

    def _rename(self, call: _Call) -> None:
        """Give a call that is sent again another key: the supervisor may yet tell of the death of the first process."""
        del self._calls[call.key]
        call.key = next(self._keys)
        call.death = None
        self._calls[call.key] = call

    def _presume_dead(self, call: _Call, death: CallDied) -> None:
        """Its process has died a while ago, and its connection has not ended."""
        if call.phase in _ON_THEIR_WAY and call.death is death:
            self._died(call)
            self._send_waiting()

    def _bury(self, call: _Call) -> None:
        if call.phase is not _Phase.DEAD:
            return
        text = f"the process that ran {call.job.name} has died"
        if call.death is not None and call.death.how:
            text += f": {call.death.how}"
        self._end(call, Outcome.DIED, OffloadDied(text))

    # -- ends --------------------------------------------------------------------------------------------------------

    def _timed_out(self, call: _Call, timeout: float) -> None:
        call.timer = None
        error = OffloadTimeout(f"{call.job.name} has not ended within {timeout:g} s")
        if call.job.ends(Outcome.TIMED_OUT, error=error):
            self._count(call, Outcome.TIMED_OUT)
            self._give_up(call)

    def _cancel(self, job: Job[Any]) -> None:
        call = self._of_jobs.get(job)
        if job.ends(Outcome.CANCELLED, error=cancelled_error(job)) and call is not None:
            self._count(call, Outcome.CANCELLED)
            self._give_up(call)

    def _give_up(self, call: _Call) -> None:
        """End a call of which nobody wants the outcome. If it runs, it keeps its place until it has ended."""
        if call.phase is _Phase.SENT:
            assert call.sock is not None, "it was sent"
            call.phase = _Phase.GIVEN_UP
            self._of_jobs.pop(call.job, None)
            self._stop_timer(call)
            self._interrupt(call, 0)
        else:
            self._waiting.pop(call, None)
            self._forget(call)
            self._send_waiting()

    def _interrupt(self, call: _Call, attempt: int) -> None:
        """Interrupt a call again and again until it has ended, with the supervisor's help if it does not.

        A signal that comes right before a system call is seen by Python only after it: nothing cuts that one short but
        another signal. Each shutdown(2) sends one, also the second of a connection.
        """
        call.timer = None
        if call.phase is not _Phase.GIVEN_UP:
            return
        assert call.sock is not None, "it was sent"
        with contextlib.suppress(OSError):  # it has ended
            call.sock.shutdown(_socket.SHUT_WR)  # the other side gets a signal, see `interruption`
        if attempt and attempt % _REMINDERS == 0:
            self._tell(CallOverdue(call.key, call.job.name))
        call.timer = self._loop.call_later(_REMIND, self._interrupt, call, attempt + 1)

    def _end(
        self,
        call: _Call,
        outcome: Outcome,
        error: BaseException | None = None,
        value: Any = None,
        *,
        at_once: bool = False,
    ) -> None:
        self._forget(call)
        if not call.job.done():
            self._count(call, outcome)
            call.job.ends(outcome, value, error, at_once=at_once)

    def _forget(self, call: _Call) -> None:
        self._release(call)
        self._stop_timer(call)
        if call.substitute is not None:
            call.substitute.cancel()
        call.phase = _Phase.OVER
        call.packed = call.substitute = None
        self._calls.pop(call.key, None)
        self._of_jobs.pop(call.job, None)
        self._show()

    def _stop_timer(self, call: _Call) -> None:
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None

    def _release(self, call: _Call) -> None:
        """Close the connection of a call."""
        if call.sock is not None:
            self._drop(call.sock)
            call.sock = None

    def _count(self, call: _Call, outcome: Outcome) -> None:
        self._record.numbers[_COUNTED[outcome]] += 1
        self._record.times[CALL_SECONDS] += monotonic() - call.began

    def _show(self) -> None:
        self._record.numbers[UNDERWAY] = len(self._calls)
