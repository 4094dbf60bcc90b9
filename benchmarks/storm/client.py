"""One client of a storm: a connection at a time, a request at a time, and what has become of each."""

from __future__ import annotations

import dataclasses
import errno
import re
import select
import socket

from benchmarks.storm.tally import Tally

PAUSE = 0.01  # seconds after a failure: a server that refuses is not asked a hundred thousand times a second
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})
_ANSWERS = select.EPOLLIN | select.EPOLLRDHUP

_LONGEST = 65_536  # bytes of an answer

Address = tuple[str, int] | str
"""Host and port, or the path of a UNIX socket."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What all clients of a storm have in common."""

    address: Address
    target: str
    """Path and query; the token is added to the query."""
    close: bool
    """Whether each request has a connection of its own."""
    timeout: float
    """Seconds for a request, connecting included."""
    rest: float = 0.0
    """Seconds that a client waits after a right answer before it asks again."""

    @property
    def family(self) -> int:
        """Of the sockets."""
        if isinstance(self.address, str):
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET

    @property
    def around_token(self) -> tuple[bytes, bytes]:
        """What stands before and behind the token in a request."""
        host = "localhost" if isinstance(self.address, str) or ":" in self.address[0] else self.address[0]
        line = f"GET {self.target}{'&' if '?' in self.target else '?'}token="
        fields = f" HTTP/1.1\r\nHost: {host}\r\n{'Connection: close' if self.close else 'Accept: */*'}\r\n\r\n"
        return line.encode(), fields.encode()


class Lines:
    """The open connections of all clients."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.owners: dict[int, Client] = {}  # descriptor -> client whose connection it is

    def close(self) -> None:
        """Close all."""
        for client in list(self.owners.values()):
            client.hang_up()
        self.poll.close()


class Client:
    """Asks, compares, counts. Nothing here blocks; call `turn` when its socket is ready and `ask` when it is idle."""

    def __init__(self, number: int, plan: Plan, lines: Lines, tally: Tally) -> None:
        self.began = 0.0
        """When the request under way began; 0: there is none."""
        self.paused_until = 0.0
        """When to `resume`; 0: it does not pause."""
        self._number = number
        self._plan = plan
        self._lines = lines
        self._tally = tally
        self._before, self._behind = plan.around_token
        self._sock: socket.socket | None = None
        self._is_sent = False  # the request is out: the connection is made
        self._asked = 0  # requests begun
        self._nth = 0  # of the connection
        self._token = b""
        self._heard = b""

    @property
    def is_idle(self) -> bool:
        """Whether it may ask now."""
        return not self.began and not self.paused_until

    @property
    def is_sent(self) -> bool:
        """Whether a request is out that has not been answered."""
        return bool(self.began) and self._is_sent

    def ask(self, now: float) -> None:
        """Begin a request, on the connection there is or on a new one."""
        self._asked += 1
        self._tally.begun += 1
        self._nth += 1
        self._token = b"%x.%x" % (self._number, self._asked)
        self._heard = b""
        self.began = now
        self.resume(now)

    def resume(self, now: float) -> None:
        """End a pause: try to connect again for a request that is under way."""
        self.paused_until, self._is_sent = 0.0, False
        if not self.began:
            return
        try:
            if self._sock is None:
                self._sock = self._connect()
            self._send(self._sock)
        except BlockingIOError:  # the queue of a UNIX socket is full, which unlike TCP's nobody can wait for
            self.hang_up()
            self.paused_until = now + PAUSE
        except OSError as error:
            self._fail_by(error, now)

    def _connect(self) -> socket.socket:
        self._nth = 1
        sock = socket.socket(self._plan.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._lines.owners[sock.fileno()] = self
        self._sock = sock  # from here on it is closed by `hang_up`
        error = sock.connect_ex(self._plan.address)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, "")
        self._tally.connections += 1
        self._lines.poll.register(sock, _ANSWERS)
        return sock

    def _send(self, sock: socket.socket) -> None:
        """Send the request, which an empty buffer takes whole; wait for the connection if it is not there yet."""
        try:
            sock.send(self._before + self._token + self._behind, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._lines.poll.modify(sock, select.EPOLLOUT)
            return
        self._is_sent = True

    def turn(self, now: float) -> None:
        """Take what came: a connection that is made, a piece of an answer, an end."""
        sock = self._sock
        assert sock is not None
        try:
            if not self._is_sent and self.began:
                self._send(sock)
                self._lines.poll.modify(sock, _ANSWERS if self._is_sent else select.EPOLLOUT)
                return
            part = sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError as error:
            if self.began:
                self._fail_by(error, now)
            else:
                self.hang_up()
            return
        if not self.began:  # it rests: the server may close a connection that waits
            self.hang_up()
        elif part:
            self._heard += part
            self._look(now)
            if len(self._heard) > _LONGEST:
                self._fail("wrong", "an answer without an end", now)
        else:
            self._fail("cut" if self._heard else "closed_fresh" if self._nth == 1 else "closed_reused", "EOF", now)

    def _look(self, now: float) -> None:
        head, end, body = self._heard.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head + b"\r\n")
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            self._fail("wrong", repr(self._heard[:200]), now)
        elif len(body) >= int(length[1]):
            self._compare(body, int(length[1]), head, now)

    def _compare(self, body: bytes, length: int, head: bytes, now: float) -> None:
        words = body.split(b" ")
        if len(body) != length or len(words) != 3 or words[0] != self._token:
            self._fail("wrong", f"{body[:200]!r} for {self._token!r}", now)
            return
        self._tally.count_right(now - self.began, words[1].decode("latin-1"), words[2].decode("latin-1"))
        self.began = 0.0
        self.paused_until = now + self._plan.rest if self._plan.rest else 0.0
        if self._plan.close:
            self.hang_up()
        elif _CLOSE.search(head + b"\r\n") is not None:
            self._tally.announced += 1
            self.hang_up()

    def expire(self, now: float) -> None:
        """Give the request up if it has had its time."""
        if self.began and now - self.began > self._plan.timeout:
            self._fail("timeouts", "no whole answer" if self._is_sent else "not connected", now)

    def _fail_by(self, error: OSError, now: float) -> None:
        if error.errno == errno.ECONNREFUSED or (error.errno == errno.ENOENT and not self._is_sent):
            kind = "refused"
        else:
            kind = "reset" if error.errno in _RESET else "errors"
        self._fail(kind, errno.errorcode.get(error.errno or 0, str(error)), now)

    def _fail(self, kind: str, what: str, now: float) -> None:
        after = f"after {now - self.began:.3f} s, request {self._nth} of the connection, {len(self._heard)} bytes heard"
        self._tally.count_failure(kind, f"{what} {after}")
        self.began, self.paused_until = 0.0, now + PAUSE
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._sock is not None:
            self._lines.owners.pop(self._sock.fileno(), None)
            self._sock.close()  # and the kernel takes it out of the poll
            self._sock = None
