"""An offload worker by itself: how it waits for calls, and ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from typing import Any

import pytest

from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.worker_spec import WorkerSpec
from hybrid.workers.offload import body
from hybrid.workers.offload.settings import PoolSettings

DEADLINE = 20.0  # seconds


class LateQueue:
    """A queue whose accept(2) a SIGTERM does not interrupt: it has come right before."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.setblocking, self.setsockopt = sock.setblocking, sock.setsockopt

    def _accept(self) -> tuple[int, Any]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            return self._sock._accept()  # type: ignore[attr-defined, no-any-return]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_signal_right_before_it_waits_is_not_lost() -> None:
    assert threading.current_thread() is threading.main_thread()
    channel, theirs = Channel.pair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind("")  # a name of the kernel's choice
        sock.listen()
        queue: Any = LateQueue(sock)
        parent = os.getpid()
        if (pid := os.fork()) == 0:
            code = int(Exit.ERROR)
            try:
                spec = WorkerSpec("web", 0, 1, parent, (), theirs, 5.0, companion="cpu", queue=queue)
                code = body.run(spec, PoolSettings(), lambda answers, looks: False)
            finally:
                os._exit(code)
    end = os.pidfd_open(pid)
    try:
        assert select.select([end], [], [], DEADLINE)[0], "it waits for calls"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == Exit.OK
    finally:
        if not select.select([end], [], [], 0)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(end)
        channel.close()
        theirs.close()
