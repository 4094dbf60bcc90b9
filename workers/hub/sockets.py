"""`Socket`: a `socket.socket` whose blocking calls park the calling greenlet instead of the process.

The descriptor is non-blocking; `gettimeout()` still returns the timeout that the handler has set. Methods that do not
block (options, names, `shutdown`, `makefile`, ...) are inherited, and `makefile` works because it reads through
`recv_into`.

In an application's thread the same calls block the thread, as for any socket.

Reading is tuned for typical servers. A read that did not fill its buffer has emptied the kernel's, so the next read
parks immediately instead of asking for EAGAIN. After a full read, the next 32 reads try first, then one waits, so that
a fast peer cannot keep the loop busy. Benchmark: `python -m benchmarks echo`.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Event, get_ident
from typing import Any

from greenlet import getcurrent

from hybrid.workers.common import lingering
from hybrid.workers.hub import connecting, files
from hybrid.workers.hub.hub_runtime import HubRuntime, current_hub
from hybrid.workers.hub.lazy_timeout import LazyTimeout
from hybrid.workers.hub.watch import Watch
from hybrid.workers.pollers.contract import READ, WRITE

_EAGER = 32  # full reads in a row that may skip the poller; a fast peer delays the others by at most that many
_RELEASE = 5.0  # seconds a thread waits for the loop to release a descriptor
_base = socket.socket
_recv = _base.recv
_recv_into = _base.recv_into
_send = _base.send
_read = os.read
_write = os.write


class Socket(_base):
    """A cooperative socket. Every method that may wait must be called in a greenlet or in another thread.

    In a coroutine or a callback of the loop it raises `RuntimeError`. Two greenlets may use one socket, one reading and
    one writing; a second reader gets `RuntimeError`.
    """

    __slots__ = (
        "_careful",
        "_eager",
        "_fd",
        "_home",
        "_is_due",
        "_patience",
        "_runtime",
        "_timeouts",
        "_watch",
        "_watches",
        "forks",
    )

    def __init__(
        self,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
        runtime: HubRuntime | None = None,
    ) -> None:
        self._runtime = runtime or current_hub()
        self.forks = lingering.NEVER
        """`lingering.forks` when the connection was accepted, else `NEVER`."""
        super().__init__(family, type, proto, fileno)
        self._is_due = self._runtime.turn.is_due
        self._patience = socket.getdefaulttimeout()  # seconds a call may wait; None for no limit, 0 for non-blocking
        if type != -1 and type & socket.SOCK_NONBLOCK:
            self._patience = 0.0
        _base.setblocking(self, False)
        self._home = self._runtime.home
        self._fd = _base.fileno(self)  # for read(2) and write(2): cheaper to call from Python than recv(2) and send(2)
        self._watches = self._runtime.watches
        self._watch: Watch = self._watches.open(self._fd)
        self._eager = 1  # reads to try before waiting: the first bytes have often arrived with the connection
        self._timeouts: tuple[LazyTimeout, LazyTimeout] | None = None  # to read and to write; made on first use
        self._careful = self._is_special()

    def _is_special(self) -> bool:
        """Return True if a wait needs the general path: a timeout, a closed socket, a loop that runs in a greenlet."""
        return self._patience is not None or self._watch.fd < 0 or self._home.parent is not None

    # -- the hot path; benchmark: python -m benchmarks echo ------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return at most `bufsize` bytes, b"" at the end. Parks. Raises `TimeoutError`, `OSError`."""
        eager = self._eager
        if eager:
            self._eager = eager - 1
        elif not flags:  # with flags, try the call first: they may include MSG_DONTWAIT
            # `_wait_readable` inlined: the call would be a tenth of the cost of an exchange above the system calls
            watch = self._watch
            me = getcurrent()
            # only the first greenlet of a thread has no parent: the loop's own, or another thread's
            if self._careful or me.parent is None or watch.on_readable is not None or bufsize < 0:
                del me  # a greenlet keeps the error that ends it, and the error this frame
                self._check_size(bufsize, "recv")
                self._wait_with_care(READ)
            else:
                watch.on_readable = me.switch
                del me
                try:
                    if not watch.armed & READ:
                        self._watches.arm(watch, READ)
                    self._runtime.go_home()
                except BaseException:
                    watch.on_readable = None
                    raise
        try:
            data = _recv(self, bufsize, flags) if flags else _read(self._fd, bufsize)
        except BlockingIOError:
            return self._recv_again(bufsize, flags)
        except OSError:
            self._check_size(bufsize, "recv")  # EINVAL of read(2)
            raise
        if len(data) != bufsize:
            self._eager = 0
            if not data:
                self.forks = lingering.NEVER  # no more input can cause a reset
        elif not eager:
            self._eager = _EAGER
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into `buffer`; return the number of bytes, 0 at the end. Parks. Raises `TimeoutError`, `OSError`."""
        if self._eager:
            self._eager -= 1
            if self._is_due():
                self._give_way()
        elif not flags:
            self._check_size(nbytes, "recv_into")
            self._wait_readable()
            self._eager = _EAGER
        while True:
            try:
                count = _recv_into(self, buffer, nbytes, flags)
            except BlockingIOError:
                self._wait_again(flags)
                continue
            if count != (nbytes or len(buffer)):
                self._eager = 0
                if not count:
                    self.forks = lingering.NEVER
            return count

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of `data`. Parks while the peer does not read. Raises `TimeoutError` (in total), `OSError`."""
        if type(data) is not bytes or flags:
            self._send_rest(memoryview(data).cast("B"), flags)
            return
        try:
            sent = _write(self._fd, data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:], flags)
        elif self._is_due():
            self._give_way()

    def _recv_again(self, bufsize: int, flags: int) -> bytes:
        """Receive after EAGAIN: wait, then try before waiting once more."""
        self._wait_again(flags)
        self._eager += 1
        return Socket.recv(self, bufsize, flags)

    def _wait_readable(self) -> None:
        """Park until the descriptor is readable."""
        watch = self._watch
        me = getcurrent()
        if self._careful or me.parent is None or watch.on_readable is not None:
            del me  # see `recv`
            self._wait_with_care(READ)
            return
        watch.on_readable = me.switch
        del me
        try:
            if not watch.armed & READ:
                self._watches.arm(watch, READ)
            self._runtime.go_home()
        except BaseException:
            watch.on_readable = None
            raise

    @staticmethod
    def _check_size(size: int, where: str) -> None:
        """Raise the standard library's `ValueError` for a negative number of bytes."""
        if size < 0:
            raise ValueError(f"negative buffersize in {where}")

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait_again(self, flags: int = 0) -> None:
        """Wait after EAGAIN, unless the caller wants to see it."""
        if self._patience == 0 or flags & socket.MSG_DONTWAIT:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._wait_readable()

    def _wait_writable(self, patience: float | None, flags: int = 0) -> None:
        if flags & socket.MSG_DONTWAIT:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if patience is not None and patience <= 0:
            if self._patience == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            raise TimeoutError("timed out")
        self._wait_with_care(WRITE, patience)

    def _wait_with_care(self, direction: int, patience: float | None = None) -> None:
        """Park until ready for `direction`; the general path: closed sockets, two waiters, timeouts, threads."""
        watch = self._watch
        if watch.fd < 0:
            raise OSError(errno.EBADF, "the socket is closed")
        reading = direction == READ
        if (watch.on_readable if reading else watch.on_writable) is not None:
            raise RuntimeError(f"another greenlet is {'reading from' if reading else 'writing to'} this socket already")
        if reading:
            patience = self._patience
            if patience == 0:
                return  # non-blocking: let the call itself find out
        if get_ident() != self._runtime.thread:
            _block(watch.fd, direction, patience)
            return
        me = getcurrent()
        if me is self._home:
            self._runtime.refuse_to_park()
        timeout = None
        if patience is not None:
            timeout = self._timeout(direction)
            timeout.set(patience, partial(me.throw, TimeoutError("timed out")))
        try:
            if reading:
                watch.on_readable = me.switch
            else:
                watch.on_writable = me.switch
            del me  # see `recv`
            if not watch.armed & direction:
                self._watches.arm(watch, direction)
            self._runtime.go_home()
        except BaseException:
            if reading:
                watch.on_readable = None
            else:
                watch.on_writable = None
            raise
        finally:
            if timeout is not None:
                timeout.clear()

    def _timeout(self, direction: int) -> LazyTimeout:
        if self._timeouts is None:
            loop = self._runtime.loop
            self._timeouts = (LazyTimeout(loop), LazyTimeout(loop))
        return self._timeouts[direction == WRITE]

    # -- receiving -----------------------------------------------------------------------------------------------

    def _receive(self, receive: Callable[[], Any], flags: int) -> Any:
        while True:
            try:
                received = receive()
            except BlockingIOError:
                self._wait_again(flags)
                continue
            if self._is_due():
                self._give_way()
            return received

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As `socket.recvfrom`. Parks."""
        found: tuple[bytes, Any] = self._receive(partial(super().recvfrom, bufsize, flags), flags)
        return found

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As `socket.recvfrom_into`. Parks."""
        found: tuple[int, Any] = self._receive(partial(super().recvfrom_into, buffer, nbytes, flags), flags)
        return found

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """As `socket.recvmsg`. Parks."""
        found: tuple[bytes, list[Any], int, Any] = self._receive(
            partial(super().recvmsg, bufsize, ancbufsize, flags), flags
        )
        return found

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        """As `socket.recvmsg_into`. Parks."""
        found: tuple[int, list[Any], int, Any] = self._receive(
            partial(super().recvmsg_into, list(buffers), ancbufsize, flags), flags
        )
        return found

    def accept(self) -> tuple[Socket, Any]:
        """Return a cooperative socket for the next connection, and its address. Parks."""
        fd, address = self._receive(self._accept, 0)  # type: ignore[attr-defined]  # the C method under accept()
        return Socket(self.family, self.type, self.proto, fileno=fd, runtime=self._runtime), address

    # -- sending -------------------------------------------------------------------------------------------------

    def _send(self, send: Callable[[], int], flags: int = 0) -> int:
        """Call `send` until it does not raise EAGAIN, within the timeout."""
        ends = self._deadline()
        while True:
            try:
                sent = send()
            except BlockingIOError:
                self._wait_writable(self._remaining(ends), flags)
                continue
            if self._is_due():
                self._give_way()
            return sent

    def _send_rest(self, rest: memoryview, flags: int) -> None:
        ends = self._deadline()
        while rest:
            try:
                rest = rest[_send(self, rest, flags) :]
            except BlockingIOError:
                self._wait_writable(self._remaining(ends), flags)
        if self._is_due():
            self._give_way()

    def _give_way(self) -> None:
        """Let other greenlets run after an operation that did not wait; see `fairness`."""
        if self._patience != 0:
            self._runtime.give_way()

    def _deadline(self) -> float | None:
        return None if self._patience is None else self._runtime.loop.time() + self._patience

    def _remaining(self, ends: float | None) -> float | None:
        return None if ends is None else ends - self._runtime.loop.time()

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As `socket.send`. Parks while there is no room at all."""
        return self._send(partial(_send, self, data, flags), flags)

    def sendto(self, data: Any, *args: Any) -> int:  # two forms: [flags,] address
        """As `socket.sendto`. Parks."""
        return self._send(partial(super().sendto, data, *args), args[0] if len(args) > 1 else 0)

    def sendmsg(
        self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        """As `socket.sendmsg`. Parks while there is no room at all."""
        where = () if address is None else (address,)
        return self._send(partial(super().sendmsg, list(buffers), list(ancdata), flags, *where), flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a binary file from `offset`, `count` bytes or all; return the number of bytes. Parks.

        Uses sendfile(2) if the file allows it, else reads and sends. The file's position ends behind the last byte
        sent, also after an error. The timeout counts for each wait, not for the whole file. Raises `TimeoutError`,
        `OSError`, and `ValueError` for a text file, a bad `count`, a datagram socket or one that may not wait.
        """
        return files.send(self, file, offset, count)

    # -- connecting ----------------------------------------------------------------------------------------------

    def connect(self, address: Any, /) -> None:
        """Connect. Parks; a host name is resolved in a thread. Raises `TimeoutError`, `OSError`."""
        code = connecting.connect(self, address)
        if code:
            raise OSError(code, os.strerror(code))  # Python picks the subclass by the code

    def connect_ex(self, address: Any, /) -> int:
        """Connect; return 0 or an errno. Parks."""
        try:
            return connecting.connect(self, address)
        except BlockingIOError:
            return errno.EINPROGRESS
        except TimeoutError:
            return errno.EAGAIN

    # -- the rest of the surface ---------------------------------------------------------------------------------

    def settimeout(self, value: float | None, /) -> None:
        """Set the seconds that each call may wait; None for no limit, 0 for non-blocking."""
        if value is not None and not value >= 0:
            raise ValueError("Timeout value out of range")
        self._patience = None if value is None else float(value)
        self._careful = self._is_special()

    def gettimeout(self) -> float | None:
        """The timeout that was set, in seconds."""
        return self._patience

    @property
    def timeout(self) -> float | None:  # an attribute of the C class
        """The timeout that was set, in seconds."""
        return self._patience

    def setblocking(self, flag: bool, /) -> None:
        """As `settimeout(None)` or `settimeout(0)`."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Return True unless the socket is non-blocking."""
        return self._patience != 0

    def detach(self) -> int:
        """Return the descriptor (still non-blocking) and close this object. Wakes waiting greenlets.

        In another thread it blocks until the loop has released the descriptor, a few seconds at most.
        """
        if get_ident() != self._runtime.thread and self._is_polled():
            self._release_in_loop()
        else:
            self._release()
        return super().detach()

    def _real_close(self, *args: Any) -> None:
        """Called by `close()` once all files of `makefile` are closed. Wakes waiting greenlets. Does not block."""
        lingers = self.forks != lingering.NEVER and lingering.is_due(self._fd, lingering.family_of(self), self.forks)
        if get_ident() != self._runtime.thread and (lingers or self._is_polled()):
            self._close_in_loop(lingers)
            return
        self._release()
        if lingers:
            lingering.linger(self._runtime.loop, super().detach(), lingering.family_of(self))
        else:
            super()._real_close(*args)  # type: ignore[misc]  # the hook socket.close() calls

    def fileno(self) -> int:
        """Return the descriptor. The caller may share it, so closing this socket does not linger."""
        self.forks = lingering.NEVER
        return super().fileno()

    def __repr__(self) -> str:
        forks = self.forks
        try:
            return super().__repr__()
        finally:
            self.forks = forks

    def __del__(self) -> None:
        """Release a socket that was not closed: the poller must forget the number before the kernel reuses it."""
        if getattr(self, "_watch", None) is not None and self._fd >= 0:  # unset if the constructor failed
            if get_ident() != self._runtime.thread and self._is_polled():
                self._close_in_loop(False)  # the garbage collector runs in any thread
            else:
                self._release()
        super().__del__()  # type: ignore[misc]  # closes the descriptor, with a ResourceWarning

    def _release(self) -> None:
        self._careful = True
        self._fd = -1
        self.forks = lingering.NEVER
        self._watches.release(self._watch)
        for timeout in self._timeouts or ():
            timeout.close()

    def _is_polled(self) -> bool:
        """Return True if the poller may know this socket: then only the loop's thread may release it."""
        watch = self._watch
        return bool(watch.armed) or watch.on_readable is not None or watch.on_writable is not None

    def _release_in_loop(self) -> None:
        """Let the loop release the descriptor, and wait for that: the caller may close it, and its number be reused."""
        released = Event()

        def release() -> None:
            self._release()
            released.set()

        with suppress(RuntimeError):  # the loop is closed, and no longer polls
            self._runtime.loop.call_soon_threadsafe(release)
            released.wait(_RELEASE)

    def _close_in_loop(self, lingers: bool) -> None:
        """Let the loop close the descriptor soon: the socket was closed, or garbage-collected, in another thread."""
        self._careful = True
        self._fd = -1
        self.forks = lingering.NEVER
        family = lingering.family_of(self)
        fd = super().detach()
        loop, watches, watch = self._runtime.loop, self._watches, self._watch

        def close() -> None:
            watches.release(watch)
            if lingers:
                lingering.linger(loop, fd, family)
            else:
                os.close(fd)

        try:
            loop.call_soon_threadsafe(close)
        except RuntimeError:  # the loop is closed
            os.close(fd)


def _block(fd: int, direction: int, patience: float | None) -> None:
    """Block this thread, at most `patience` seconds, until `fd` is ready. Raises `TimeoutError`."""
    poll = select.poll()
    poll.register(fd, select.POLLIN if direction == READ else select.POLLOUT)
    if not poll.poll(None if patience is None else math.ceil(max(patience, 0) * 1000)):
        raise TimeoutError("timed out")
