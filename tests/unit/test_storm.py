"""The load of the fault tests counts what becomes of every request, by a server that does as it is told."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.rows import for_each
from support.storm import Flight, Storm, Tally

RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b"


class Server:
    """Answers one connection after the other, as its script says for each request; then always right."""

    def __init__(self, sock: socket.socket, script: tuple[str, ...]) -> None:
        self.address: tuple[str, int] | str = sock.getsockname()
        self.hung = threading.Event()
        """Set while a request is kept waiting."""
        self._sock = sock
        self._script = list(script)
        self._release = threading.Event()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:  # shut down
                return
            with connection:
                connection.settimeout(10)
                while self._answer(connection):
                    pass

    def end(self) -> None:
        self._release.set()
        self._sock.shutdown(socket.SHUT_RDWR)

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request; tell whether the connection stays."""
        try:
            request = connection.recv(1000)
        except OSError:
            return False
        if not request:
            return False
        token = re.search(rb"token=(\S+)", request)
        assert token is not None
        way = self._script.pop(0) if self._script else "right"
        return self._do(way, connection, token[1] + b" 42 1")

    def _do(self, way: str, connection: socket.socket, body: bytes) -> bool:
        answers = {
            "right": RIGHT % (len(body), b"", body),
            "leaves": RIGHT % (len(body), b"", body),
            "announced": RIGHT % (len(body), b"Connection: close\r\n", body),
            "foreign": RIGHT % (len(body) + 1, b"", b"x" + body),
            "failing": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
            "twice": RIGHT % (len(body), b"", body) * 2,
            "cut": RIGHT % (len(body), b"", body[:-1]),
        }
        if way == "hang":
            self.hung.set()
            self._release.wait(10)
            return False
        if way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if way in answers:
            connection.sendall(answers[way])
        return way not in ("reset", "end", "announced", "cut", "leaves")


@contextmanager
def server(*script: str, family: int = socket.AF_INET, where: object = ("127.0.0.1", 0)) -> Iterator[Server]:
    with socket.socket(family) as sock:
        sock.bind(where)
        sock.listen()
        made = Server(sock, script)
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            yield made
        finally:
            made.end()
            thread.join()


def counts(tally: Tally) -> dict[str, int]:
    """What failed, by name."""
    names = (
        *("wrong", "refused", "reset", "closed_fresh", "closed_reused", "cut", "timeouts", "errors"),
        "announced",
    )
    return {name: count for name in names if (count := getattr(tally, name))}


@for_each(
    ("script", "expected"),
    [
        (("right",), {}),
        (("right", "announced"), {"announced": 1}),
        (("foreign",), {"wrong": 1}),
        (("failing",), {"wrong": 1}),
        (("right", "twice"), {"wrong": 1}),
        (("reset",), {"reset": 1}),
        (("right", "reset"), {"reset": 1}),
        (("end",), {"closed_fresh": 1}),
        (("right", "end"), {"closed_reused": 1}),
        (("cut", "end", "cut"), {"cut": 2, "closed_fresh": 1}),
    ],
)
def test_what_becomes_of_a_request_is_counted(script: tuple[str, ...], expected: dict[str, int]) -> None:
    with server(*script) as told, Storm(told.address, clients=1) as storm:
        storm.wait_answers(5)
        tally = storm.stop()
        assert counts(tally) == expected
        assert tally.failures == sum(expected.values()) - tally.announced
        assert tally.begun == tally.right + tally.failures
        assert len(tally.examples) == tally.failures
        assert tally.by_pid == {"42": tally.right}


def test_a_connection_is_used_for_one_request_if_told_so() -> None:
    with server() as told, Storm(told.address, clients=1, close=True) as storm:
        storm.wait_answers(20)
        tally = storm.stop()
    assert tally.connections == tally.begun == tally.right


def test_a_connection_is_kept_otherwise() -> None:
    with server() as told, Storm(told.address, clients=1) as storm:
        storm.wait_answers(20)
    assert storm.stop().connections == 1


def test_a_client_rests_between_an_answer_and_its_next_request_if_told_so() -> None:
    with server() as told, Storm(told.address, clients=1, rest=0.05) as storm:
        storm.wait_answers(4)
        tally = storm.stop()
    assert tally.failures == 0
    assert tally.seconds >= 3 * 0.05


def test_a_connection_that_the_server_closes_during_a_rest_is_no_failure() -> None:
    with server("leaves") as told, Storm(told.address, clients=1, rest=0.05) as storm:
        storm.wait_answers(3)
        tally = storm.stop()
    assert tally.failures == 0
    assert tally.connections == 2


def test_requests_without_an_answer_are_counted_at_any_moment_and_given_up_after_their_time() -> None:
    with server("hang") as told, Storm(told.address, clients=3, timeout=0.5) as storm:
        assert told.hung.wait(10)
        assert storm.in_flight() == Flight(sent=3, connecting=0)  # the kernel has made all three connections
        tally = storm.stop()
    assert counts(tally) == {"timeouts": 3}


def test_a_server_that_is_not_there_refuses() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with Storm(free.getsockname(), clients=2) as storm:
            tally = storm.stop()
    assert tally.refused == tally.failures >= 2


def test_a_storm_that_nobody_stops_says_so() -> None:
    with server() as told, Storm(told.address, clients=1, deadline=0.2) as storm:
        with pytest.raises(AssertionError, match="came to its deadline"):
            storm.wait_answers(10**9)
        storm.close()


def test_unix_sockets_are_asked_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    with server(family=socket.AF_UNIX, where=path) as told, Storm(told.address, clients=1) as storm:
        storm.wait_answers(5)
        assert storm.stop().failures == 0


def test_percentiles_are_right_to_two_percent() -> None:
    tally = Tally()
    for milliseconds in range(1, 101):
        tally.count_right(milliseconds / 1000, "1", "1")
    assert tally.percentile(50) == pytest.approx(0.050, rel=0.03)
    assert tally.percentile(99) == pytest.approx(0.099, rel=0.03)
    assert tally.longest == 0.1
    assert Tally(**tally.as_dict()) == tally
