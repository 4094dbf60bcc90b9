"""An application that writes into a socket that is not its own: the one its worker talks to the supervisor with.

BAD_MESSAGES is `some` for three messages, or `full` for as many as fit after the gate has opened.
"""

from __future__ import annotations

import os
import socket

import gated
from plain import tell_pid


def _channel() -> socket.socket:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if sock.type == socket.SOCK_SEQPACKET:
            return sock
        sock.close()
    raise LookupError("no channel")


def _send_bad_messages(channel: socket.socket) -> None:
    if os.environ["BAD_MESSAGES"] == "some":
        for words in (b"lorem ipsum", b'{"type": "Exit"}', b"\xff" * 40_000):
            channel.send(words)
        return
    gated.pass_gate()
    channel.setblocking(False)
    try:
        while True:
            channel.send(b"lorem ipsum" * 100)
    except BlockingIOError:
        pass


with _channel() as found:
    _send_bad_messages(found)
handle = tell_pid
