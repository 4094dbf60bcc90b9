"""The gateway to a Dask cluster: takes calls from the queue of its generation, passes them on, and answers.

It is a companion of its service, in an interpreter of its own (`supervisor.children.gateway`), with asyncio and Dask.
Web workers need neither: for them it is an offload worker that takes many calls at a time.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import types
from typing import Any, Final, NoReturn

from hybrid.workers.contract import log, reopening
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.gateway_spec import GatewaySpec
from hybrid.workers.contract.messages import (
    BootFailed,
    CallDied,
    Draining,
    GatewayTold,
    LogLevel,
    Message,
    MessageError,
    Ready,
    Reopened,
)
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS
from hybrid.workers.contract.version import VERSION
from hybrid.workers.offload import letters, outcomes, remote
from hybrid.workers.offload.cluster import CallFailed, CallLost, Cluster
from hybrid.workers.offload.packing import Packed

MOST: Final = 256
"""Calls that it has passed on at a time; further ones wait in the queue."""
_INTERFACE: Final = "gateway"
_FIRST: Final = 5.0  # seconds for a call to come on a connection
_TELLS: Final = 0.5  # seconds between two reports of the number of calls
_SHORT: Final = 0.05  # seconds until accept(2) is tried again without descriptors
_PR_SET_NAME: Final = 15  # linux/prctl.h
_MARGIN: Final = 0.5  # seconds before SIGKILL at which calls are given up
_log = logging.getLogger("hybrid")


def main(fd: int) -> NoReturn:
    """Be the gateway that the spec in a descriptor describes; end the process with its exit code. Blocks."""
    spec = GatewaySpec.read(fd)
    for one in (spec.channel_fd, spec.queue_fd, spec.dump_fd, spec.log_fd):
        if one > 2:
            os.set_inheritable(one, False)
    labels = {"service": spec.title, "slot": spec.slot, "generation": spec.generation}
    log.configure(spec.log_format, spec.log_level, labels, spec.log_fd)
    channel = Channel(socket.socket(fileno=spec.channel_fd))
    ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.create_string_buffer(spec.name.encode()), 0, 0, 0)
    if spec.version != VERSION:
        reason = f"hybrid {VERSION} is installed now, and {spec.version} runs: run hybrid upgrade"
        channel.send_nowait(BootFailed(Exit.ERROR, reason))
        os._exit(Exit.ERROR)
    code = asyncio.run(_Gateway(spec, channel).run())
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # the thread in accept(2) does not end, and Dask's exit handlers may wait for the cluster


def _do_nothing(number: int, frame: types.FrameType | None) -> None:
    """Handle a signal that is for the supervisor."""


class _Gateway:
    def __init__(self, spec: GatewaySpec, channel: Channel) -> None:
        self._spec = spec
        self._channel = channel
        self._queue = _socket.socket(fileno=spec.queue_fd)
        self._cluster = Cluster(spec.scheduler, self._changed)
        self._receiver = letters.Receiver()
        self._uid = os.geteuid()
        self._room = threading.Semaphore(MOST)
        self._open = threading.Event()  # calls are wanted
        self._calls: set[asyncio.Task[None]] = set()
        self._in_flight = 0  # calls that the cluster has
        self._told: GatewayTold | None = None
        self._ends = asyncio.Event()
        self._code = Exit.OK

    async def run(self) -> int:
        """Run until it is told to end; return the exit code."""
        self._loop = loop = asyncio.get_running_loop()
        self._take_signals()
        loop.add_reader(self._channel.fileno(), self._obey)
        keeper = loop.create_task(self._cluster.keep())
        threading.Thread(target=self._accept_all, name="accept", daemon=True).start()
        self._tell(Ready("asyncio", _INTERFACE))
        _log.info("ready for offloaded calls, for the Dask scheduler %s", self._spec.scheduler)
        reports = loop.create_task(self._report())
        await self._ends.wait()
        self._open.clear()
        if self._calls:
            grace = self._spec.graceful_timeout
            await asyncio.wait(self._calls, timeout=max(grace - _MARGIN, grace / 2))
        for task in (*self._calls, reports, keeper):
            task.cancel()
        await asyncio.wait((*self._calls, reports, keeper), timeout=_MARGIN / 2)
        return self._code

    # -- the supervisor ----------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, _do_nothing)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, _do_nothing)
        signal.signal(TELL_STACKS, self._tell_stacks)
        signal.siginterrupt(TELL_STACKS, False)
        faulthandler.register(DUMP_STACK, self._spec.dump_fd, all_threads=True, chain=False)
        self._loop.add_signal_handler(signal.SIGTERM, self._end, "asked by the supervisor")
        if os.getppid() != self._spec.supervisor_pid:  # it died before the kernel was asked to tell
            self._end("the supervisor is gone")

    def _tell_stacks(self, number: int, frame: types.FrameType | None) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            faulthandler.dump_traceback(self._spec.dump_fd, all_threads=True)

    def _obey(self) -> None:
        try:
            found = self._channel.take_over_nowait()
        except ChannelClosed:
            self._loop.remove_reader(self._channel.fileno())
            self._end("the supervisor is gone")
            return
        except MessageError as error:
            _log.warning("ignored: %s", error)
            return
        if found is None:
            return
        order, descriptors = found
        if isinstance(order, Reopened):
            reopening.replace(order.numbers, descriptors)
            return
        for fd in descriptors:
            os.close(fd)
        if isinstance(order, LogLevel):
            _log.setLevel(order.level)

    def _end(self, why: str) -> None:
        if self._ends.is_set():
            return
        self._ends.set()
        _log.info("ending (%s)", why)
        if os.getppid() != self._spec.supervisor_pid:
            self._code = Exit.ORPHANED
        self._tell(Draining())  # another process may have sent the signal

    def _tell(self, message: Message) -> None:
        with contextlib.suppress(ChannelClosed):  # SIGTERM follows: the supervisor is gone
            self._channel.send_nowait(message)

    def _changed(self) -> None:
        """The connection to the scheduler was made, or lost."""
        is_wanted = self._cluster.is_connected or not self._spec.falls_back
        if is_wanted and not self._ends.is_set():
            self._open.set()
        else:
            self._open.clear()
        self._tell_state()

    def _tell_state(self) -> None:
        cluster = self._cluster
        state = GatewayTold(cluster.scheduler, cluster.trouble, cluster.since, self._in_flight)
        if state != self._told and (cluster.is_connected or cluster.trouble):
            self._told = state
            self._tell(state)

    async def _report(self) -> None:
        while True:
            self._tell_state()
            await asyncio.sleep(_TELLS)

    # -- calls -------------------------------------------------------------------------------------------------------

    def _accept_all(self) -> None:
        """Accept while calls are wanted and there is room, in a thread: others accept from this socket too.

        So it blocks, and a non-blocking accept would change the socket of all. A call that comes when none is wanted
        any more is closed unread, and its caller sends it again.
        """
        while True:
            self._room.acquire()
            self._open.wait()
            try:
                fd, _ = self._queue._accept()  # type: ignore[attr-defined]  # socket.accept makes its own class
            except OSError as error:  # ECONNABORTED, or no descriptors are left
                _log.warning("cannot accept an offloaded call: %s", error.strerror)
                self._room.release()
                self._pause()
                continue
            try:
                self._loop.call_soon_threadsafe(self._accepted, fd)
            except RuntimeError:  # the loop has ended
                return

    def _pause(self) -> None:
        threading.Event().wait(_SHORT)

    def _accepted(self, fd: int) -> None:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)
        if not self._open.is_set():
            sock.close()
            self._room.release()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._serve(sock))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _serve(self, sock: _socket.socket) -> None:
        try:
            letter = await self._receive(sock)
            if letter is not None:
                await self._pass_on(sock, letter.key, _call_of(letter))
        except (letters.BadLetter, OSError) as error:
            _log.warning("ignored what is no call: %s", error)
        finally:
            sock.close()
            self._room.release()

    async def _receive(self, sock: _socket.socket) -> letters.Letter | None:
        """Return the call of a new connection; None if there is none."""
        try:
            letter = self._receiver.receive(sock)
        except BlockingIOError:  # its sender has stopped between two system calls
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST):
                    await self._readable(sock)
            letter = self._receiver.receive(sock)
        if letter is not None and letter.uid != self._uid:  # the queue's address is visible to all accounts
            _log.warning("refused a call of another account, uid %d", letter.uid)
            return None
        return letter if letter is not None and letter.kind == letters.CALL else None

    async def _readable(self, sock: _socket.socket) -> None:
        """Wait until something comes on a connection, or its end."""
        ready = asyncio.Event()
        self._loop.add_reader(sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(sock.fileno())

    async def _pass_on(self, sock: _socket.socket, number: int, call: bytes) -> None:
        """Have the cluster run a call, until it has ended or its caller has given it up."""
        key = self._cluster.new_key()
        runs = self._loop.create_task(self._cluster.run(key, call, self._spec.max_result))
        gone = self._loop.create_task(self._readable(sock))
        self._in_flight += 1
        try:
            await asyncio.wait((runs, gone), return_when=asyncio.FIRST_COMPLETED)
            if runs.done():
                self._answer(sock, number, runs)
            else:
                await self._cluster.stop(key)
        finally:
            self._in_flight -= 1
            for task in (runs, gone):
                task.cancel()
            await asyncio.wait((runs, gone))
            if not runs.cancelled():
                runs.exception()  # it is told, or nobody waits for it

    def _answer(self, sock: _socket.socket, number: int, runs: asyncio.Task[bytes]) -> None:
        """Answer a call that has ended. No answer says that its process has died."""
        ran = 0.0
        error = runs.exception()
        if isinstance(error, CallLost):
            self._tell(CallDied(number, str(error)))
            return
        if error is not None:
            text = str(error) if isinstance(error, CallFailed) else f"{type(error).__name__}: {error}"
            kind, packed = outcomes.failed(text)
        elif not runs.result():
            self._tell(CallDied(number, "it was interrupted on its Dask worker"))
            return
        else:
            kind, packed, ran = remote.split(runs.result())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller has gone
            self._send(sock, number, kind, packed, ran)

    def _send(self, sock: _socket.socket, number: int, kind: int, packed: Packed, ran: float) -> None:
        try:
            letters.send(sock, kind, number, packed, ran)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except OSError as error:  # no memory, no descriptors
            kind, packed = outcomes.failed(f"the outcome of {packed.size} bytes cannot be sent: {error.strerror}")
            letters.send(sock, kind, number, packed, ran)


def _call_of(letter: letters.Letter) -> bytes:
    parts: list[Any] = [letter.pickle, *letter.buffers]
    return remote.joined(letter.kind, parts, is_dill=letter.is_dill)
