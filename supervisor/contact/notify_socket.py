"""What a service manager is told: ready, reloading, stopping, status, main process, watchdog (sd_notify(3)).

Datagrams to the socket that NOTIFY_SOCKET names. It decides nothing: the shell knows when to say what. And nothing in
it blocks or raises: a manager that does not listen must not stop a service.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Final, Self

from hybrid.workers.contract import log

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_LONGEST_STATUS: Final = 1000  # characters; systemd throws datagrams of more than 4096 bytes away
_SHORTEST_INTERVAL: Final = 0.01  # seconds: a watchdog of microseconds would keep the supervisor busy with nothing else
_USEC_INFINITY: Final = 2**64 - 1  # systemd's "never"
# What passes: a full queue of the manager's (net.unix.max_dgram_qlen datagrams), and want of memory or descriptors.
_PASSING: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})

logger = logging.getLogger(log.LOGGER_NAME)


class NotifySocket:
    """The line to a service manager; one that does nothing if there is none.

    No method blocks or raises. The first failure is logged, as one warning. What cannot be sent because the manager
    does not keep up is kept, of each kind the newest, and goes out in its order with the next message or with `retry`.
    """

    def __init__(
        self,
        address: bytes | None,
        pid: int,
        *,
        watchdog_interval: float | None = None,
        environment: Mapping[str, str] | None = None,
        is_held: bool = False,
    ) -> None:
        """`address` is that of an AF_UNIX datagram socket, or None; `is_held`: send nothing before `take_over`."""
        self._address = address  # None: there is nobody to tell
        self._pid = pid
        self._watchdog_interval = watchdog_interval
        self._environment = dict(environment or {})
        self._is_held = is_held
        self._is_mute = False  # another process has the word
        self._unsent: dict[str, bytes] = {}  # first variable of a message -> the message, in their order
        self._status = ""  # as last said
        self._has_complained = False
        self._sock: socket.socket | None = None
        if address is not None:
            with contextlib.suppress(OSError):  # no descriptor: tried again with the first message
                self._open()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int, *, handed_over: bool = False) -> Self:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environ`, so that no program of a worker's speaks.

        `pid` is this process. `handed_over`: it continues another supervisor, whose pid WATCHDOG_PID may still name,
        and which alone systemd listens to until it has said `main_pid`: all is held back until `take_over`.
        """
        found = {name: environ.pop(name) for name in _VARIABLES if name in environ}
        address = _address_of(found.get("NOTIFY_SOCKET", ""))
        is_meant = handed_over or found.get("WATCHDOG_PID", str(pid)) == str(pid)
        interval = _interval(found.get("WATCHDOG_USEC", "")) if is_meant and address is not None else None
        return cls(address, pid, watchdog_interval=interval, environment=found, is_held=handed_over)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of `watchdog`: half of what systemd allows (sd_watchdog_enabled(3)); None: none."""
        return self._watchdog_interval

    @property
    def environment(self) -> dict[str, str]:
        """The variables as they were, for a successor."""
        return dict(self._environment)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for `retry`: call it in some milliseconds."""
        return bool(self._unsent) and not self._is_held

    def ready(self) -> None:
        """Tell that the service serves: at the start, and after `reloading`, whether the reload went well or not."""
        self._say("READY", "READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun; `ready` must follow.

        Type=notify-reload demands the time: systemd compares it with that of its signal (systemd.service(5)).
        """
        now = time.monotonic_ns() // 1000  # microseconds of CLOCK_MONOTONIC
        self._say("RELOADING", f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Tell that the service goes down. There is no way back: systemd takes the unit for stopping from here on."""
        self._say("STOPPING", "STOPPING=1")

    def status(self, text: str) -> None:
        """Tell in one line how the service is; sent only if it differs from the last one."""
        line = " ".join(text.split())[:_LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._say("STATUS", f"STATUS={line}")

    def watchdog(self) -> None:
        """Tell that all is well, every `watchdog_interval` seconds, as long as it is; nothing without a watchdog."""
        if self._watchdog_interval is not None:
            self._say("WATCHDOG", "WATCHDOG=1")

    def main_pid(self, pid: int) -> None:
        """Tell which process is the main one from now on. If it is another one, this was the last word.

        systemd would refuse what follows (NotifyAccess=main), or take `stopping` for the whole service's (all).
        """
        self._say("MAINPID", f"MAINPID={pid}")
        if pid != self._pid:
            self._is_mute = True
            self._watchdog_interval = None

    def take_over(self) -> None:
        """Send what was held back, and the rest as it comes: the old supervisor has named this process."""
        self._is_held = False
        self.retry()

    def retry(self) -> None:
        """Send what could not be sent."""
        while self._unsent and not self._is_held:
            name = next(iter(self._unsent))
            try:
                self._send(self._unsent[name])
            except OSError as error:
                self._complain(error)
                if error.errno in _PASSING:
                    return
            del self._unsent[name]

    def close(self) -> None:
        """Say no more. For workers, right after the fork; may be called twice."""
        self._address = None
        self._unsent.clear()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _say(self, name: str, text: str) -> None:
        if self._address is None or self._is_mute:
            return
        self._unsent.pop(name, None)  # the newest goes last
        self._unsent[name] = text.encode("utf-8", "replace")
        self.retry()

    def _open(self) -> socket.socket:
        """Return the socket. Kept for life: where descriptors run out, the watchdog must be fed all the same."""
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)
        return self._sock

    def _send(self, datagram: bytes) -> None:
        # By address each time, never connected: a manager that is restarted binds a new socket there.
        assert self._address is not None
        self._open().sendto(datagram, socket.MSG_NOSIGNAL, self._address)

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            reason = (error.strerror or str(error)).lower()
            logger.warning("cannot reach the service manager at NOTIFY_SOCKET: %s; it may not know our state", reason)
        self._has_complained = True


def _address_of(text: str) -> bytes | None:
    """Return the address of NOTIFY_SOCKET as bind(2) takes it; None if there is none, or one that is not for us."""
    match text[:1]:
        case "":
            return None
        case "/":
            return os.fsencode(text)
        case "@":
            return b"\0" + os.fsencode(text[1:])
        case _:
            logger.warning("NOTIFY_SOCKET is %s: nothing is told, for only paths and @names are understood", text)
            return None


def _interval(text: str) -> float | None:
    """Return half of WATCHDOG_USEC in seconds; None if it is no number of microseconds."""
    usec = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_USEC_INFINITY)) else 0
    if not 0 < usec < _USEC_INFINITY:
        return None
    return max(usec / 2 / 1_000_000, _SHORTEST_INTERVAL)
