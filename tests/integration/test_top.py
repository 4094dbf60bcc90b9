"""`hybrid top` on a terminal: what it shows, what keys and signals do, and that the terminal is put back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from support.control_peer import GREETING, HANG_UP, SHOP, ControlPeer, failure, result, service, status, worker
from support.process import DEADLINE, OUR_VARIABLES
from support.service import eventually, is_stopped

ENTER = "\x1b[?1049h"
LEAVE = "\x1b[?25h\x1b[?1049l"
_EFFECTS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

PROGRAM = (sys.executable, "-P", "-m", "hybrid")
# A shell with one job: tells when it has stopped, and continues it when it is told so.
SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen(sys.argv[1:], process_group=0, preexec_fn=lambda: signal.signal(signal.SIGTTOU, signal.SIG_DFL))
while True:
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
    status = os.waitpid(job.pid, os.WUNTRACED)[1]
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        os._exit(os.waitstatus_to_exitcode(status))
    print("stopped", flush=True)
    input()
"""


def _lead() -> None:
    """Begin with the terminal and the usual signals: another test may have changed those of this process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Screen:
    """A pseudo terminal with a command on it. Every wait has a deadline, and raises with all that was written."""

    def __init__(
        self, *words: str, columns: int = 120, lines: int = 20, program: Sequence[str] = PROGRAM, **variables: str
    ) -> None:
        self.leader, self.follower = os.openpty()
        self.resize(columns, lines)
        self.modes = termios.tcgetattr(self.follower)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith((*OUR_VARIABLES, "NO_COLOR"))
        }
        self.process = subprocess.Popen(
            [*program, *words],
            env={**inherited, "TERM": "xterm-256color", **variables},
            stdin=self.follower, stdout=self.follower, stderr=self.follower, start_new_session=True,
            preexec_fn=_lead,
        )  # fmt: skip
        self.written = ""

    def wait_for(self, text: str, *, since: int = 0) -> int:
        """Read until `text` is on the screen, in what was written from `since` on; return where it ends."""
        until = time.monotonic() + DEADLINE
        while True:
            plain = _EFFECTS.sub("", self.written[since:]) if "\x1b" not in text else self.written[since:]
            if text in plain:
                return len(self.written)
            assert self._read(until), f"{text!r} did not come; last written:\n{self.written[-3000:]!r}"

    def _read(self, until: float) -> bool:
        if not select.select([self.leader], [], [], max(until - time.monotonic(), 0))[0]:
            return False
        try:
            self.written += os.read(self.leader, 1 << 16).decode()
        except OSError:  # the last process has closed the terminal
            return False
        return True

    def press(self, keys: str) -> int:
        """Type keys; return how much had been written before."""
        before = len(self.written)
        os.write(self.leader, keys.encode())
        return before

    def resize(self, columns: int, lines: int) -> None:
        """Set the size, which the kernel tells by SIGWINCH."""
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait(self) -> int:
        """Wait for the end of the command; return its exit code."""
        until = time.monotonic() + DEADLINE
        while self.process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError):
                self._read(time.monotonic() + 0.05)
        while select.select([self.leader], [], [], 0)[0] and self._read(until):
            pass
        return self.process.wait(DEADLINE)

    def is_as_before(self) -> bool:
        """Whether the modes of the terminal are those from before the command."""
        return termios.tcgetattr(self.follower) == self.modes

    def close(self) -> None:
        """Kill the command, if it still runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        os.close(self.leader)
        os.close(self.follower)


Start = Callable[..., Screen]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command on a terminal of its own: `start(peer, *words)`."""
    screens: list[Screen] = []

    def begin(peer: ControlPeer, *words: str, **details: Any) -> Screen:
        screen = Screen(*(words or ("top",)), HYBRID_CONTROL=peer.address, **details)
        screens.append(screen)
        return screen

    yield begin
    for screen in screens:
        screen.close()


@pytest.fixture
def peer() -> Iterator[ControlPeer]:
    with ControlPeer() as shop:
        yield shop


def assert_left(screen: Screen) -> None:
    """Assert that the terminal is as it was before the command."""
    assert screen.written.rindex(LEAVE) > screen.written.rindex(ENTER)
    assert screen.is_as_before()


def test_the_table_is_shown_and_q_quits(peer: ControlPeer, start: Start) -> None:
    screen = start(peer)
    screen.wait_for("> web/0  4713  ready")
    screen.wait_for("shop/prices.py:88")
    screen.press("q")
    assert screen.wait() == 0
    assert_left(screen)


def test_an_arrow_selects_and_enter_shows_the_stacks(peer: ControlPeer, start: Start) -> None:
    screen = start(peer)
    screen.wait_for("> web/0")
    before = screen.press("\x1b[B")
    screen.wait_for("> web/1", since=before)
    before = screen.press("\r")
    screen.wait_for("shop/app.py:31 in list_prices", since=before)
    before = screen.press("\x1b")
    screen.wait_for("> web/1", since=before)
    assert {"id": 2, "request": "stacks", "service": "web", "slot": 1} in [{**one, "id": 2} for one in peer.asked]
    screen.press("q")
    assert screen.wait() == 0


def test_a_key_sorts(peer: ControlPeer, start: Start) -> None:
    screen = start(peer)
    screen.wait_for("> web/0")
    before = screen.press("b")
    end = screen.wait_for("  web/0", since=before)
    shown = _EFFECTS.sub("", screen.written[before:end])
    assert shown.index("> web/1" if "> web/1" in shown else "web/1") < shown.index("web/0")


def test_fresh_numbers_come_every_second(start: Start) -> None:
    answers = iter(range(1000))
    fresh = lambda request: [*result(**status(service(workers=[worker(0, pid=next(answers))])))(request)]  # noqa: E731
    with ControlPeer(status=fresh) as peer:
        screen = start(peer)
        for pid in range(3):
            screen.wait_for(f"> web/0  {pid}    ready")


def test_a_new_size_is_drawn_at_once(peer: ControlPeer, start: Start) -> None:
    screen = start(peer, columns=120)
    before = screen.wait_for("RESTARTS")
    screen.resize(40, 10)
    end = screen.wait_for("> web/0  ready", since=before)
    assert "RESTARTS" not in screen.written[before:end]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_it_puts_the_terminal_back(peer: ControlPeer, start: Start, number: signal.Signals) -> None:
    screen = start(peer)
    screen.wait_for("> web/0")
    screen.process.send_signal(number)
    assert screen.wait() == -number
    assert_left(screen)


def test_ctrl_c_quits(peer: ControlPeer, start: Start) -> None:
    screen = start(peer)
    screen.wait_for("> web/0")
    screen.press("\x03")
    assert screen.wait() == 0
    assert_left(screen)


def test_ctrl_z_stops_it_with_the_terminal_put_back_and_fg_continues_it(peer: ControlPeer, start: Start) -> None:
    screen = start(peer, "top", program=[sys.executable, "-c", SHELL, sys.executable, "-P", "-m", "hybrid"])
    screen.wait_for("> web/0")
    before = screen.press("\x1a")
    screen.wait_for("stopped", since=before)
    assert LEAVE in screen.written[before:]
    assert screen.is_as_before()
    before = screen.press("fg\n")
    screen.wait_for("> web/0", since=before)
    screen.press("q")
    assert screen.wait() == 0
    assert_left(screen)


def test_after_sigstop_the_screen_is_drawn_again(peer: ControlPeer, start: Start) -> None:
    screen = start(peer)
    screen.wait_for("> web/0")
    screen.process.send_signal(signal.SIGSTOP)
    eventually(lambda: is_stopped(screen.process.pid), "it is stopped")
    termios.tcsetattr(screen.follower, termios.TCSANOW, screen.modes)  # as a shell does
    before = len(screen.written)
    screen.process.send_signal(signal.SIGCONT)
    screen.wait_for("> web/0", since=before)
    screen.press("q")
    assert screen.wait() == 0
    assert screen.is_as_before()


def test_a_supervisor_that_is_gone_is_told_and_found_again(start: Start) -> None:
    replies = iter([True, False])

    def once(request: dict[str, Any]) -> list[object]:
        return [*result(**status())(request)] if next(replies, True) else [HANG_UP]

    with ControlPeer({**SHOP, "status": once}) as peer:
        screen = start(peer)
        screen.wait_for("> web/0")
        before = screen.wait_for("has closed the connection")
        screen.wait_for("> web/0", since=before)
        screen.press("q")
        assert screen.wait() == 0


def test_after_an_upgrade_the_successor_is_found_by_its_name(start: Start) -> None:
    name = f"found-{secrets.token_hex(4)}"
    greeting = {**GREETING, "name": name}
    with ControlPeer(greeting=greeting, address=f"@hybrid/{name}/1.{secrets.token_hex(4)}") as old:
        screen = start(old, "top", "-n", name)
        before = screen.wait_for("> web/0  4713")
    successor = status(service(workers=[worker(0, pid=9999)]))
    with ControlPeer(greeting=greeting, address=f"@hybrid/{name}/2.{secrets.token_hex(4)}", status=result(**successor)):
        screen.wait_for("> web/0  9999", since=before)


def test_stacks_that_are_refused_say_why(start: Start) -> None:
    with ControlPeer(stacks=failure("failed", "the worker is gone")) as peer:
        screen = start(peer)
        screen.wait_for("> web/0")
        screen.press("\r")
        screen.wait_for("no stacks: the worker is gone")


def test_a_terminal_that_goes_away_ends_it(peer: ControlPeer) -> None:
    screen = Screen("top", HYBRID_CONTROL=peer.address)
    try:
        screen.wait_for("> web/0")
    finally:
        os.close(screen.leader)
        os.close(screen.follower)
    code = screen.process.wait(DEADLINE)
    assert code in (1, -signal.SIGHUP)


def test_status_on_a_terminal_has_its_width(peer: ControlPeer, start: Start) -> None:
    screen = start(peer, "status", columns=60)
    assert screen.wait() == 0
    shown = _EFFECTS.sub("", screen.written).splitlines()
    assert "SLOT   STATE    BUSY  REQ/S" in [line.rstrip() for line in shown]
    assert "\x1b[32mready" in screen.written


def test_status_obeys_no_color(peer: ControlPeer, start: Start) -> None:
    screen = start(peer, "status", NO_COLOR="1")
    assert screen.wait() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", screen.written)
