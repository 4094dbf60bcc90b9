"""The body of an offload worker: accept a call, run it, answer; one after another, in the main thread.

It is a companion of its service: a fork of the zygote, of the generation whose calls it runs. It blocks in accept(2):
the kernel wakes those that wait in turn, so calls spread evenly.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import logging
import os
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Callable
from typing import Final

from hybrid.workers.common import forks
from hybrid.workers.common.heartbeat import Heartbeat, resident
from hybrid.workers.common.incidents import Incidents
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import OFFLOAD_INTERFACE, CallOverdue, Draining, Message, Ready, RecycleDue
from hybrid.workers.contract.scoreboard import (
    ANSWERED,
    ASKED,
    BUSY,
    BUSY_SINCE,
    CALL,
    CPU,
    IN_FLIGHT,
    MEMORY,
    REQUESTS,
    Activity,
)
from hybrid.workers.contract.worker_spec import WorkerSpec
from hybrid.workers.offload import letters, outcomes, place
from hybrid.workers.offload.interruption import Interrupted, Interruption
from hybrid.workers.offload.packing import Packed, pack_result
from hybrid.workers.offload.settings import PoolSettings

_WAIT: Final = 1  # seconds in accept(2) before Python looks for a signal that has come right before it
_FIRST: Final = 5.0  # seconds for a call to come on a connection
_LOOK_AT_MEMORY: Final = 0.1  # seconds between two looks
_OVERDUE: Final = 1.5  # seconds for a call to end whose caller has gone; one that lives complains a little earlier
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_PASSING: Final = frozenset(  # errors of accept(2) that concern one call, or that end by themselves
    {errno.ECONNABORTED, errno.EINTR, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)
_log = logging.getLogger("hybrid")
Listen = Callable[[Callable[[], object], Callable[[], object]], bool]
"""Begins to obey orders; gets what to call at a ping, and what a few times a second. Returns False if impossible."""


def run(spec: WorkerSpec, settings: PoolSettings, listen: Listen) -> int:
    """Run calls until this process is told to end; return its exit code. Call it in the main thread.

    `listen` has orders of the supervisor obeyed in another thread.
    """
    assert spec.queue is not None, "an offload worker gets the queue"
    return _OffloadWorker(spec, settings, spec.queue, listen).run()


class _Leave(BaseException):
    """Leaves accept(2)."""


class _OffloadWorker:
    def __init__(self, spec: WorkerSpec, settings: PoolSettings, queue: _socket.socket, listen: Listen) -> None:
        self._spec = spec
        self._listen = listen
        self._settings = settings
        self._queue = queue
        self._record = spec.record
        self._heartbeat = Heartbeat(spec.record)
        self._receiver = letters.Receiver()
        self._interruption = Interruption()
        self._incidents = Incidents()
        self._uid = os.geteuid()
        self._pid = os.getpid()  # a process that a call forks has another
        self._poll = log.unpatched("poll")
        self._now = time.monotonic
        self._idle = False  # in accept(2), or about to be
        self._ending = False
        self._code = Exit.OK
        self._calls = 0
        self._is_due = False  # for recycling
        self._looked = 0.0  # at its memory
        self._is_broken = False  # a call has closed descriptors that are not its own
        self._unwanted = 0  # the key of the call whose caller has gone; belongs to the thread, as the next one
        self._unwanted_since: float | None = None  # None: the supervisor has been told

    def run(self) -> int:
        forks.guard(self._spec.channel, self._heartbeat.abandon)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        with contextlib.suppress(OSError):
            os.nice(self._settings.nice)
        place.is_inside()
        self._queue.setblocking(True)
        self._queue.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, struct.pack("ll", _WAIT, 0))
        self._heartbeat.tells(Activity.READY)
        self._record.numbers[MEMORY] = resident()
        self._tell(Ready("", OFFLOAD_INTERFACE, listens=self._listen(self._answer_ping, self._remind)))
        _log.info("ready for offloaded calls")
        try:
            while self._serve_one():
                pass
        except _Leave:  # between two calls
            pass
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return self._code

    def _serve_one(self) -> bool:
        """Accept and serve one call; return False if this process must end."""
        self._idle = True
        if self._ending:
            return False
        try:
            fd, _ = self._queue._accept()  # type: ignore[attr-defined]  # socket.accept makes its own class
        except OSError as error:
            if error.errno not in _PASSING:  # EBADF: a call has closed the queue's descriptor
                _log.error("cannot accept offloaded calls any more, ending: %s", error.strerror)
                self._code = Exit.ERROR
                return False
            if error.errno == errno.EAGAIN:
                return True
            _log.warning("cannot accept an offloaded call: %s", error.strerror)
            self._poll().poll(50)  # milliseconds
            return True
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)
        self._idle = False
        self._serve(sock)
        if self._is_broken:  # the supervisor tells the caller of the death
            sock.detach()
            return False
        self._record.numbers[CALL] = self._record.numbers[IN_FLIGHT] = 0
        with contextlib.suppress(OSError):  # the call has closed it
            sock.close()
        self._look()
        return True

    def _serve(self, sock: _socket.socket) -> None:
        try:
            letter = self._receive(sock)
        except (letters.BadLetter, OSError) as error:
            self._incidents.log("ignored what is no call: %s", error)
            return
        if letter is None or letter.kind != letters.CALL:
            return
        if letter.uid != self._uid:  # the queue's address is visible to all accounts
            self._incidents.log("refused a call of another account, uid %d", letter.uid)
            with contextlib.suppress(OSError):
                refusal = pack_result(("offload workers run as another account", ""))
                letters.send(sock, letters.FAILED, letter.key, refusal)
            return
        self._interruption.watches(sock.fileno())
        numbers, times = self._record.numbers, self._record.times
        began = self._now()
        numbers[CALL], numbers[IN_FLIGHT] = letter.key, 1
        numbers[REQUESTS] += 1
        times[BUSY_SINCE] = began
        answer = self._outcome_of(letter)
        ran = self._now() - began
        times[BUSY_SINCE] = 0.0
        times[BUSY] += ran
        if answer is None:
            with contextlib.suppress(OSError):  # a close is not enough: a process that the call has forked has it too
                sock.shutdown(_socket.SHUT_RDWR)
            return
        try:
            self._answer(sock, letter.key, ran, *answer)
        except (BrokenPipeError, ConnectionResetError):  # the caller has gone
            pass
        except OSError as error:  # EBADF, ENOTSOCK
            _log.error("a call has closed descriptors of its process, ending: %s", error.strerror)
            self._code, self._is_broken = Exit.ERROR, True

    def _receive(self, sock: _socket.socket) -> letters.Letter | None:
        """Return the call of a new connection. It is there, or its sender has stopped between two system calls."""
        try:
            return self._receiver.receive(sock)
        except BlockingIOError:
            poll = self._poll()
            poll.register(sock.fileno(), select.POLLIN)
            poll.poll(_FIRST * 1000)
            return self._receiver.receive(sock)

    def _outcome_of(self, letter: letters.Letter) -> tuple[int, Packed] | None:
        """Run a call; return the kind of its answer and the answer. None: nobody waits for it."""
        interruption = self._interruption
        self._calls += 1
        try:
            try:
                interruption.begins()
                function, args, kwargs = letter.load()
                try:
                    result = function(*args, **kwargs)
                finally:
                    if os.getpid() != self._pid:  # forked by the call: only its parent answers, and goes on
                        forks.fail(self, sys.exception())
                    self._take_back_signals()
                return outcomes.of_result(result, self._settings.max_result, self._settings.option("max_result"))
            finally:
                interruption.ends()
        except Interrupted:
            return None
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            return outcomes.of_error(error)

    def _take_back_signals(self) -> None:
        """Undo what the call has done to signals. What a handler of its own raises here belongs to the call."""
        if self._code is not Exit.ORPHANED:  # else a timer ends this process
            for timer in _TIMERS:
                signal.setitimer(timer, 0)
        if signal.getsignal(signal.SIGTERM) != self._on_sigterm:
            signal.signal(signal.SIGTERM, self._on_sigterm)
        self._interruption.restore()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGIO})

    def _answer_ping(self) -> None:
        """Show that this process runs. Called in the thread."""
        times = self._record.times
        times[CPU] = time.process_time()
        times[ANSWERED] = times[ASKED]

    def _remind(self) -> None:
        """Interrupt a call again whose caller has gone, and tell the supervisor if it goes on. Called in the thread."""
        key = self._record.numbers[CALL]
        if not self._interruption.remind():
            self._unwanted = 0
        elif key != self._unwanted:
            self._unwanted, self._unwanted_since = key, self._now()
        elif self._unwanted_since is not None and self._now() - self._unwanted_since >= _OVERDUE:
            with contextlib.suppress(ChannelClosed):
                if self._spec.channel.hand_over_nowait(CallOverdue(key, "a call whose caller has gone"), ()):
                    self._unwanted_since = None

    def _answer(self, sock: _socket.socket, key: int, ran: float, kind: int, packed: Packed) -> None:
        try:
            letters.send(sock, kind, key, packed, ran)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except OSError as error:  # no memory, no descriptors
            text = f"the outcome of {packed.size} bytes cannot be sent: {error.strerror}"
            letters.send(sock, letters.FAILED, key, pack_result((text, "")), ran)

    def _look(self) -> None:
        """Ask for a successor once a limit is reached."""
        settings = self._settings
        now = self._now()
        if now - self._looked >= _LOOK_AT_MEMORY:
            self._looked = now
            self._record.numbers[MEMORY] = memory = resident()
            if settings.max_memory and memory > settings.max_memory and not self._is_due:
                self._recycle(f"uses {memory >> 20} MiB")
        if settings.max_tasks and self._calls >= settings.max_tasks and not self._is_due:
            self._recycle(f"has run {self._calls} calls")

    def _recycle(self, why: str) -> None:
        self._is_due = True
        self._tell(RecycleDue(why))

    def _on_sigterm(self, number: int, frame: types.FrameType | None) -> None:
        """End after the call that runs; the supervisor bounds that."""
        if os.getpid() != self._pid or self._ending:
            return
        self._ending = True
        self._spec.grace.begin(self._spec.graceful_timeout)
        self._heartbeat.tells(Activity.DRAINING)
        if os.getppid() != self._spec.supervisor_pid:
            self._code = Exit.ORPHANED
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, self._spec.graceful_timeout)
        else:
            self._tell(Draining())  # another process may have sent the signal
        if self._idle:
            raise _Leave

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(ChannelClosed):  # SIGTERM follows: the supervisor is gone
            self._spec.channel.send_nowait(message)
