"""The terminal of `hybrid top`: unbuffered keys, the alternate screen, signals, and everything as it was at the end.

Signals are noticed through a pipe (`signal.set_wakeup_fd`), so a poll sees keys, the supervisor and signals alike.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final, TextIO

from hybrid.console.layout import Line
from hybrid.console.painting import Painter

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE = "\x1b[H", "\x1b[K"
_READ: Final = 1024  # bytes of keys at a time
CAUGHT: Final = (
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
)


class Terminal:
    """A screen to draw on and a keyboard to read. Use it within `opened`."""

    def __init__(self, keyboard: int | None, screen: TextIO, news: int) -> None:
        """`keyboard`: the descriptor of a terminal, or None; `news`: the pipe of signals."""
        self._keyboard = keyboard
        self._screen = screen
        self._news = news
        self._painter = Painter(screen)
        self._drawn: tuple[Line, ...] = ()
        self._before: list[Any] | None = None  # the modes of the keyboard, while they are changed

    def enter(self) -> None:
        """Switch to the alternate screen and to keys without Enter. Ctrl-C and Ctrl-Z stay signals."""
        if self._keyboard is not None:
            if self._before is None:
                self._before = termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard, termios.TCSADRAIN)
        self._write(_ENTER)
        self.redraw()

    def leave(self) -> None:
        """Put screen and keyboard back; may be called twice. A terminal that is gone is left as it is."""
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        before, self._before = self._before, None
        if self._keyboard is not None and before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSADRAIN, before)

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does, with the terminal as it was; return once it is continued."""
        self.leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            os.kill(os.getpid(), signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, handler)
            self.enter()

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._screen.fileno())
        except OSError:
            return 80, 24
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[Line]) -> None:
        """Show lines from the top of the screen on, if they have changed. Raises `OSError` if the terminal is gone."""
        filled = (*lines, *([()] * (self.size()[1] - len(lines))))
        if filled == self._drawn:
            return
        # a line is cleared before it is written: behind its last cell, terminals differ in what they clear
        text = self._painter.text(filled, f"\r\n{_CLEAR_LINE}").removesuffix(f"\r\n{_CLEAR_LINE}")
        self._write(f"{_HOME}{_CLEAR_LINE}{text}")
        self._drawn = filled

    def redraw(self) -> None:
        """Draw the next lines even if they have not changed: the size of the screen has."""
        self._drawn = ()

    def wait(self, others: Sequence[int], timeout: float) -> tuple[bytes, list[signal.Signals], set[int]]:
        """Wait up to `timeout` seconds; return keys as bytes, signals, and those of `others` that are readable.

        Raises `OSError` if the keyboard is gone.
        """
        poll = select.poll()
        for number in (self._news, *others, *([] if self._keyboard is None else [self._keyboard])):
            poll.register(number, select.POLLIN)
        ready = {number for number, _ in poll.poll(max(timeout, 0) * 1000)}
        keys = b""
        if self._keyboard is not None and self._keyboard in ready:
            keys = os.read(self._keyboard, _READ)
            if not keys:
                raise OSError("the terminal is gone")
        signals = [signal.Signals(number) for number in os.read(self._news, _READ)] if self._news in ready else []
        return keys, signals, ready & set(others)

    def _write(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()


@contextlib.contextmanager
def opened(keyboard: int | None, screen: TextIO) -> Iterator[Terminal]:
    """Set up a terminal, and put it back at the end, whatever the end is."""
    with _noticed_signals() as news:
        terminal = Terminal(keyboard, screen, news)
        try:
            terminal.enter()
            yield terminal
        finally:
            terminal.leave()


@contextlib.contextmanager
def _noticed_signals() -> Iterator[int]:
    """Write the numbers of the signals in `CAUGHT` to a pipe, of which the reading end is given."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:  # e.g. by nohup
                handlers[number] = signal.signal(number, _noticed)
        yield reading
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _noticed(number: int, frame: FrameType | None) -> None:
    """Let the pipe tell."""
