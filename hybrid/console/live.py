"""The loop of `hybrid top`: it asks a supervisor, draws, and reacts to keys and signals. Never waits for an answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from hybrid.console import top
from hybrid.console.keys import Keys
from hybrid.console.layout import Span, Style
from hybrid.console.lists import stacks_lines
from hybrid.console.safe import safe
from hybrid.console.terminal import Terminal
from hybrid.console.views import status_of
from hybrid.control.client import Client
from hybrid.control.errors import ControlError, LateError
from hybrid.control.messages import Failure, Result

REFRESH: Final = 1.0  # seconds between two tables
_LATE: Final = 5.0  # seconds; a supervisor that has not answered by then is asked over a new connection
_ESCAPE: Final = 0.05  # seconds after which an Escape is the key, not the beginning of another one

ENDING = frozenset({signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
"""Signals that end the program as they would have without a terminal to put back."""


class Live:
    """`hybrid top` on a terminal."""

    def __init__(
        self, client: Client, reconnect: Callable[[], Client], terminal: Terminal, service: str | None = None
    ) -> None:
        """`reconnect` returns a new connection or raises `ControlError`; it may block for a second."""
        self._client: Client | None = client
        self._reconnect = reconnect
        self._terminal = terminal
        self._service = service
        self._top = top.Top()
        self._keys = Keys()
        self._asked: dict[int, str] = {}  # id of a request without an answer -> its name
        self._due = time.monotonic()  # when to ask for the status
        self._heard = time.monotonic()  # the last answer

    def run(self) -> signal.Signals | None:
        """Run until the user quits; return the signal that ended it, None for the key or Ctrl-C.

        Raises `OSError` if the terminal is gone.
        """
        try:
            while True:
                self._ask_when_due()
                self._terminal.draw(top.render(self._top, *self._terminal.size()))
                timeout = _ESCAPE if self._keys.is_incomplete else self._due - time.monotonic()
                others = [] if self._client is None else [self._client.fileno()]
                typed, signals, readable = self._terminal.wait(others, timeout)
                for number in signals:
                    if number in ENDING:
                        return number
                    if number is signal.SIGINT:
                        return None
                    if number is signal.SIGTSTP:
                        self._terminal.suspend()
                    elif number is signal.SIGWINCH:
                        self._terminal.redraw()
                    elif number is signal.SIGCONT:  # after SIGSTOP, which nothing announces
                        self._terminal.enter()
                if readable:
                    self._hear()
                if not self._react(typed, is_quiet=not (typed or signals or readable)):
                    return None
        finally:
            self._drop()

    def _ask_when_due(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + REFRESH
        try:
            if self._client is None:
                self._client = self._reconnect()
                self._heard = now
            elif now - self._heard > _LATE:
                raise LateError(f"the supervisor at {self._client.address} does not answer")
            if "status" not in self._asked.values():
                self._ask("status", service=self._service)
        except ControlError as error:
            self._trouble(error)

    def _ask(self, name: str, **parameters: object) -> None:
        if self._client is not None:
            self._asked[self._client.start(name, 0.2, **parameters)] = name

    def _hear(self) -> None:
        assert self._client is not None
        try:
            for message in self._client.receive_nowait():
                match message:
                    case Result(id=int(number), value=value) if number in self._asked:
                        self._answered(self._asked.pop(number), value)
                    case Failure(id=int(number), reason=reason) if number in self._asked:
                        self._failed(self._asked.pop(number), safe(reason))
        except ControlError as error:
            self._trouble(error)

    def _answered(self, name: str, value: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        if name == "status":
            self._top = top.refreshed(self._top, status_of(value))
        else:
            self._top = top.with_stacks(self._top, stacks_lines(value))

    def _failed(self, name: str, reason: str) -> None:
        self._heard = time.monotonic()
        if name == "status":
            self._top = top.troubled(self._top, reason)
        else:
            self._top = top.with_stacks(self._top, [(Span(f"no stacks: {reason}", Style.BAD),)])

    def _react(self, typed: bytes, *, is_quiet: bool) -> bool:
        """React to keys; return False to quit. `is_quiet`: nothing has come for a while, so Escape stands alone."""
        keys = self._keys.flush() if is_quiet else self._keys.feed(typed)
        for key in keys:
            self._top, wish = top.pressed(self._top, key, self._terminal.size()[1])
            match wish:
                case top.Quit():
                    return False
                case top.ShowStacks(service, slot):
                    try:
                        self._ask("stacks", service=service, slot=slot)
                    except ControlError as error:
                        self._trouble(error)
        return True

    def _trouble(self, error: ControlError) -> None:
        self._top = top.troubled(self._top, safe(str(error)))
        self._drop()

    def _drop(self) -> None:
        """Close the connection, with the requests that were made over it."""
        self._asked.clear()
        if self._client is not None:
            self._client.close()
            self._client = None


def end_by(number: signal.Signals) -> None:
    """End this process by a signal, as if it had not been caught."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
