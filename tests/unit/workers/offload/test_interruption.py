"""`Interruption`: what the end of a caller does to the call that runs. The signal is raised as the kernel does it."""

from __future__ import annotations

import importlib
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.process import DEADLINE

from hybrid.workers.offload.interruption import Interrupted, Interruption

MODULE = """
import socket
with socket.fromfd({fd}, socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
    caller.shutdown(socket.SHUT_WR)
CONTENT = len(["another bytecode" for _ in range(500)])
"""


class Caller(NamedTuple):
    """The caller's side of a connection, and what watches the other side."""

    sock: socket.socket
    interruption: Interruption


@pytest.fixture
def caller() -> Iterator[Caller]:
    """Give the caller of a call that runs."""
    before = signal.getsignal(signal.SIGIO)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    interruption = Interruption()
    interruption.watches(ours.fileno())
    interruption.begins()
    try:
        with ours, theirs:
            yield Caller(theirs, interruption)
            interruption.ends()
    finally:
        signal.signal(signal.SIGIO, before)


def go(caller: Caller) -> None:
    """Shut the caller's side, and wait as a call may."""
    caller.sock.shutdown(socket.SHUT_WR)
    wait()


def wait() -> None:
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        select.select([], [], [], 0.01)


def test_a_call_ends_when_its_caller_has_gone(caller: Caller) -> None:
    with pytest.raises(Interrupted):
        go(caller)


def test_a_signal_of_others_does_not_end_a_call(caller: Caller) -> None:
    signal.raise_signal(signal.SIGIO)


def test_an_import_is_finished_before_its_call_ends(
    caller: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise half of it would stay in `sys.modules`."""
    (tmp_path / "slow_to_import.py").write_text(MODULE.format(fd=caller.sock.fileno()))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Interrupted):
        import_and_wait("slow_to_import", caller.interruption)
    assert sys.modules.pop("slow_to_import").CONTENT == 500


def import_and_wait(name: str, interruption: Interruption) -> None:
    importlib.import_module(name)
    reminder = threading.Thread(target=interruption.remind)
    reminder.start()
    try:
        wait()
    finally:
        reminder.join()
