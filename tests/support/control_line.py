"""A loop around the control line, with real sockets and the clock of the fake kernel, and a client in the same process.

A UNIX socket delivers at once, so `settle` has nothing to wait for: it turns until nothing is ready and nothing is due.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from collections.abc import Callable, Mapping
from typing import Any

from hybrid.supervisor.control.address import ControlSocket, listen
from hybrid.supervisor.control.rights import ControlGroup
from hybrid.supervisor.control.server import ControlLine, Request
from support.fake_kernel import FakeKernel

GREETING = {"hybrid": "0.1.0", "name": "shop", "pid": 4711}
_MOST_TURNS = 100_000  # a loop that has not settled by then never does

Handler = Callable[[ControlLine, Request], object]


def echo(line: ControlLine, request: Request) -> None:
    """Answer a request with what it is."""
    line.answer(request, {"request": request.name, **request.parameters})


def keep(line: ControlLine, request: Request) -> None:
    """Leave a request open; the loop has it in `requests`."""


class ControlLoop:
    """What the supervisor's loop does with a control line, and nothing else. Close it."""

    def __init__(
        self,
        handler: Handler = echo,
        *,
        address: ControlSocket | None = None,
        group: ControlGroup | None = None,
        owner: int | None = None,
    ) -> None:
        self.kernel = FakeKernel()
        made = address or listen("auto", "shop")
        assert made is not None
        self.line = ControlLine(made, self.kernel, GREETING, group, owner)
        self.requests: list[Request] = []  # all that came, in order
        self.turns = 0
        self._handler = handler

    def turn(self, timeout: float) -> bool:
        """Wait once, for `timeout` seconds at most; return False if nothing has happened."""
        due, before = self.line.due, self.kernel.now()
        ready = self.kernel.wait(timeout if due is None else min(timeout, due - before))
        now = self.kernel.now()
        taken = [request for fd in ready or () for request in self.line.take(fd, now)]
        taken += self.line.advance(now)
        self.requests += taken
        for request in taken:
            self._handler(self.line, request)
        self.turns += 1
        return ready is not None or (due is not None and due <= now)

    def settle(self) -> None:
        """Turn until nothing is ready and nothing is due."""
        for _ in range(_MOST_TURNS):
            if not self.turn(0.0):
                return
        raise AssertionError("the loop does not settle")

    def passes(self, seconds: float) -> int:
        """Turn until that much time has passed; return the number of turns."""
        before, end = self.turns, self.kernel.now() + seconds
        while self.kernel.now() < end:
            self.turn(end - self.kernel.now())
            assert self.turns - before < _MOST_TURNS, "the loop spins"
        return self.turns - before

    def connects(self) -> Talker:
        """Let a client connect, and the server accept it, if it does."""
        talker = Talker(self)
        self.settle()
        return talker

    def connects_and_is_greeted(self) -> Talker:
        """The same, for a client that has read the first line."""
        talker = self.connects()
        assert talker.hears() == [{"protocol": 1, **GREETING}]
        return talker

    def close(self) -> None:
        """Close the server."""
        self.line.close()
        self.kernel.close()


class Talker:
    """A client in this process. Its methods do not block: the loop turns where it would have to wait."""

    def __init__(self, loop: ControlLoop) -> None:
        self._loop = loop
        self._heard = bytearray()
        self.is_at_end = False  # of what the server sends
        self.is_reset = False
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.connect(loop.line.address.sock.getsockname())

    def sends(self, *lines: bytes | Mapping[str, Any]) -> None:
        """Send bytes as they are, and objects as lines."""
        data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                assert self._loop.turn(0.0), "the server does not read"
            except BrokenPipeError:  # dropped meanwhile
                return

    def asks(self, *lines: bytes | Mapping[str, Any]) -> list[Any]:
        """Send lines, let the loop settle, and return what was heard since the last time."""
        self.sends(*lines)
        self._loop.settle()
        return self.hears()

    def hears(self) -> list[Any]:
        """Return the lines that have come since the last time."""
        self._receive()
        self._loop.settle()
        self._receive()
        whole, _, rest = bytes(self._heard).rpartition(b"\n")
        self._heard[:] = rest
        return [json.loads(line) for line in whole.splitlines()]

    def has_ended(self) -> bool:
        """Return True if the server has closed the connection."""
        self._receive()
        return self.is_at_end

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self.is_at_end:
                try:
                    data = self.sock.recv(65536)
                except ConnectionResetError:
                    self.is_reset, data = True, b""
                self._heard += data
                self.is_at_end = not data

    def ends_writing(self) -> None:
        """Shut the writing half down."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()


_WORDS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"\\ud800", b"\0", b"\r", b" ", b"\xff", b"\xc3\xa4"),
    *(b'"id"', b'"request"', b"1", b"-1", b"1e999", b"0.5", b"NaN", b"null", b"true", b"Infinity", b"9" * 40),
    *(b'"ping"', b'"status"', b'"reload"', b'"scale"', b'"stop"', b'"workers"', b'"by"', b'"service"', b'"web"'),
)
_NAMES = ("ping", "status", "reload", "scale", "restart", "stop", "upgrade", "stacks", "loglevel", "Ping", "", 1, None)
_PARAMETERS = ("service", "slot", "workers", "by", "now", "level", "for", "other")
_VALUES = ("web", "", "x" * 300, 0, 1, -1, 2**53, 2**60, 0.5, 1e300, True, False, None, [], {}, "debug", "\ud800")


def random_line(random: random.Random) -> bytes:
    """Return a line: bytes, words of JSON, or an object that is nearly a request, if not one."""
    match random.randrange(4):
        case 0:
            return random.randbytes(random.randrange(40)).replace(b"\n", b"") + b"\n"
        case 1:
            return b"".join(random.choices(_WORDS, k=random.randrange(12))) + b"\n"
        case _:
            fields = {name: random.choice(_VALUES) for name in random.sample(_PARAMETERS, random.randrange(3))}
            fields |= {"id": random.choice(_VALUES)} if random.random() < 0.9 else {}
            return json.dumps(fields | {"request": random.choice(_NAMES)}).encode() + b"\n"


def exchange_random_lines(count: int, seed: int) -> tuple[int, int]:
    """Send random lines, some cut anywhere, and read the answers; return how many answers and requests there were.

    Raises `AssertionError` if one line has not exactly one answer, or an answer is not what the protocol says.
    """
    numbers = random.Random(seed)
    loop = ControlLoop()
    talker = loop.connects_and_is_greeted()
    answers = sent = requests = 0
    try:
        while sent < count:
            lines = [random_line(numbers) for _ in range(min(numbers.randrange(1, 200), count - sent))]
            data = b"".join(lines)
            at = numbers.randrange(len(data))
            heard = talker.asks(data[:at]) + talker.asks(data[at:])
            assert len(heard) == len(lines), "each line has one answer"
            assert all(_is_answer(answer) for answer in heard)
            sent, answers, requests = sent + len(lines), answers + len(heard), requests + len(loop.requests)
            loop.requests.clear()  # a million of them take some memory
            loop.kernel.wait(numbers.random())
        return answers, requests
    finally:
        talker.close()
        loop.settle()
        assert loop.line.clients == 0
        loop.close()


def _is_answer(answer: Any) -> bool:
    if "result" in answer:
        return answer.keys() == {"id", "result"} and isinstance(answer["result"], dict)
    return answer.keys() == {"id", "error"} and answer["error"].keys() == {"code", "reason"}


def become(uid: int, groups: list[int]) -> None:
    """Take another account for good, in a child of root."""
    os.setgroups(groups)
    os.setgid(uid)
    os.setuid(uid)
