"""Notifications to a service manager: ready, reloading, stopping, status, main process, watchdog (sd_notify(3)).

Datagrams to the socket that NOTIFY_SOCKET names. `systemd_notifier` decides when to send which. Nothing here blocks or
raises: a manager that does not read must not stop a service.
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
_LONGEST_STATUS: Final = 1000  # characters; systemd discards datagrams of more than 4096 bytes
_SHORTEST_INTERVAL: Final = 0.01  # seconds: a watchdog of microseconds would keep the supervisor busy
_USEC_INFINITY: Final = 2**64 - 1  # systemd's "never"
# Temporary: the manager's queue is full (net.unix.max_dgram_qlen datagrams), or memory or descriptors are short.
_TEMPORARY: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})

logger = logging.getLogger(log.LOGGER_NAME)


class NotifySocket:
    """The socket to a service manager; does nothing if there is no manager.

    No method blocks or raises. The first failure is logged, as one warning. If the manager does not keep up, the newest
    message of each kind is kept, and sent in order with the next message or by `retry`.
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
        """`address`: of an AF_UNIX datagram socket, or None; `is_held`: send nothing before `take_over`."""
        self._address = address  # None: no manager
        self._pid = pid
        self._watchdog_interval = watchdog_interval
        self._environment = dict(environment or {})
        self._is_held = is_held
        self._is_mute = False  # another process notifies now
        self._unsent: dict[str, bytes] = {}  # first variable of a message -> the message, in order
        self._status = ""  # the last one sent
        self._has_complained = False
        self._sock: socket.socket | None = None
        if address is not None:
            with contextlib.suppress(OSError):  # no descriptor: tried again with the first message
                self._open()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int, *, handed_over: bool = False) -> Self:
        """Take NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of `environ`, so that no worker uses them.

        `pid` is this process. `handed_over`: it replaces another supervisor, whose pid WATCHDOG_PID may still name.
        systemd accepts messages only from that one until it sends `main_pid`, so all are held until `take_over`.
        """
        found = {name: environ.pop(name) for name in _VARIABLES if name in environ}
        address = _address_of(found.get("NOTIFY_SOCKET", ""))
        is_meant = handed_over or found.get("WATCHDOG_PID", str(pid)) == str(pid)
        interval = _interval(found.get("WATCHDOG_USEC", "")) if is_meant and address is not None else None
        return cls(address, pid, watchdog_interval=interval, environment=found, is_held=handed_over)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of `watchdog`: half of the limit (sd_watchdog_enabled(3)); None: no watchdog."""
        return self._watchdog_interval

    @property
    def environment(self) -> dict[str, str]:
        """The original variables, for a successor."""
        return dict(self._environment)

    @property
    def has_unsent(self) -> bool:
        """True if messages wait for `retry`: call it in some milliseconds."""
        return bool(self._unsent) and not self._is_held

    def ready(self) -> None:
        """The service serves: at the start, and after `reloading`, even if the reload failed."""
        self._say("READY", "READY=1")

    def reloading(self) -> None:
        """A reload has begun; `ready` must follow.

        Type=notify-reload requires the time: systemd compares it with that of its signal (systemd.service(5)).
        """
        now = time.monotonic_ns() // 1000  # microseconds of CLOCK_MONOTONIC
        self._say("RELOADING", f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The service stops. This is final: systemd treats the unit as stopping from now on."""
        self._say("STOPPING", "STOPPING=1")

    def status(self, text: str) -> None:
        """Send a status of one line, if it differs from the last one."""
        line = " ".join(text.split())[:_LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._say("STATUS", f"STATUS={line}")

    def watchdog(self) -> None:
        """Feed the watchdog; call it every `watchdog_interval` seconds. Does nothing without a watchdog."""
        if self._watchdog_interval is not None:
            self._say("WATCHDOG", "WATCHDOG=1")

    def main_pid(self, pid: int) -> None:
        """Name the main process. If it is another process, this is the last message.

        systemd would refuse later ones (NotifyAccess=main), or apply `stopping` to the whole service (all).
        """
        self._say("MAINPID", f"MAINPID={pid}")
        if pid != self._pid:
            self._is_mute = True
            self._watchdog_interval = None

    def take_over(self) -> None:
        """Send the held messages, and further ones directly: the old supervisor has named this process."""
        self._is_held = False
        self.retry()

    def retry(self) -> None:
        """Send the messages that could not be sent."""
        while self._unsent and not self._is_held:
            name = next(iter(self._unsent))
            try:
                self._send(self._unsent[name])
            except OSError as error:
                self._complain(error)
                if error.errno in _TEMPORARY:
                    return
            del self._unsent[name]

    def close(self) -> None:
        """Send nothing from now on. For workers, right after the fork; may be called twice."""
        self._address = None
        self._unsent.clear()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _say(self, name: str, text: str) -> None:
        if self._address is None or self._is_mute:
            return
        self._unsent.pop(name, None)  # the newest is sent last
        self._unsent[name] = text.encode("utf-8", "replace")
        self.retry()

    def _open(self) -> socket.socket:
        """Return the socket. It stays open: the watchdog must be fed even if descriptors run out."""
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)
        return self._sock

    def _send(self, datagram: bytes) -> None:
        # Never connected, so that messages reach the new socket of a restarted manager.
        assert self._address is not None
        self._open().sendto(datagram, socket.MSG_NOSIGNAL, self._address)

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            reason = (error.strerror or str(error)).lower()
            logger.warning("cannot reach the service manager at NOTIFY_SOCKET: %s; it may not know our state", reason)
        self._has_complained = True


def _address_of(text: str) -> bytes | None:
    """Return the address of NOTIFY_SOCKET as bind(2) takes it; None if there is none, or of an unknown kind."""
    match text[:1]:
        case "":
            return None
        case "/":
            return os.fsencode(text)
        case "@":
            return b"\0" + os.fsencode(text[1:])
        case _:
            logger.warning("NOTIFY_SOCKET is %s: not notifying, as only paths and @names are supported", text)
            return None


def _interval(text: str) -> float | None:
    """Return half of WATCHDOG_USEC in seconds; None if it is no valid number."""
    usec = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_USEC_INFINITY)) else 0
    if not 0 < usec < _USEC_INFINITY:
        return None
    return max(usec / 2 / 1_000_000, _SHORTEST_INTERVAL)
