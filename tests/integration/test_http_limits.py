"""The limits of HTTP as options of `hybrid run`: what is within one is served, what is beyond it is not, 0 is none."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.clients import ask, connected, read_all
from support.echo import read_answers
from support.loops import LOOPS, WHOLE
from support.pipeline import read_body
from support.process import DEADLINE, HybridProcess
from support.service import resident, serving
from support.wsgi import read_answer, send_request

INTERFACES = ("wsgi", "asgi")
SECONDS = 0.5  # time limits
STEP = SECONDS / 4  # a worker looks at its deadlines that often
HEAD = b"GET /hello HTTP/1.1\r\nHost: a\r\n"


@contextlib.contextmanager
def running(interface: str, loop: str, cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    with serving(f"pressed:{interface}", "--loop", loop, "--workers", "1", *arguments, cwd=cwd) as process:
        yield process


# --- sizes


def _with_target(size: int) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * (size - 1))


def _with_head(size: int) -> bytes:
    return HEAD + b"X: %b\r\n\r\n" % (b"a" * (size - len(HEAD) - len(b"X: \r\n\r\n")))


def _with_fields(count: int) -> bytes:
    return HEAD + b"X: a\r\n" * (count - 1) + b"\r\n"


def _with_body(size: int) -> bytes:
    return b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size


def _with_chunks(size: int) -> bytes:
    body = b"1\r\na\r\n" + b"%x\r\n%b\r\n" % (size - 1, b"a" * (size - 1))
    return b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


class Size(NamedTuple):
    """A limit of a size: the option, a value, requests of a size, and the status of those beyond it."""

    option: str
    value: int
    request: Callable[[int], bytes]
    status: int


SIZES = {
    "request line": Size("--max-request-line", 100, _with_target, 414),
    "header bytes": Size("--max-header-bytes", 2000, _with_head, 431),
    "header count": Size("--max-headers", 10, _with_fields, 431),
    "body": Size("--max-body-size", 1000, _with_body, 413),
    "chunked body": Size("--max-body-size", 1000, _with_chunks, 413),
}
OTHERS = (
    *("--header-timeout", "--keep-alive-timeout", "--send-timeout", "--min-body-rate"),
    *("--max-requests-per-connection", "--max-pipelined", "--max-connections"),
)
OFF = [word for option in (*sorted({size.option for size in SIZES.values()}), *OTHERS) for word in (option, "0")]


def statuses(process: HybridProcess, request: bytes) -> list[int]:
    """Send a request, say that no more follows, return the statuses of the answers."""
    return [answer.status for answer in read_answers(ask(process.address, request))]


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_size_may_be_that_of_its_limit_and_no_larger(interface: str, tmp_path: Path) -> None:
    options = {size.option: size.value for size in SIZES.values()}
    arguments = [str(word) for item in options.items() for word in item]
    with running(interface, "epoll", tmp_path, *arguments) as process:
        for name, size in SIZES.items():
            assert statuses(process, size.request(size.value)) == [200], name
            assert statuses(process, size.request(size.value + 1)) == [size.status], name
            assert statuses(process, size.request(100 * size.value)) == [size.status], name


@pytest.mark.parametrize("interface", INTERFACES)
def test_nothing_is_refused_where_the_limits_are_switched_off(interface: str, tmp_path: Path) -> None:
    """What the times do then is in the tests of the connection's deadlines."""
    with running(interface, "epoll", tmp_path, *OFF) as process:
        for name, size in SIZES.items():
            assert statuses(process, size.request(1000 if size.status == 431 else 1_000_000)) == [200], name
        assert statuses(process, _with_head(1_000_000)) == [200]
        assert statuses(process, (HEAD + b"\r\n") * 1000) == [200] * 1000


# --- times


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("loop", LOOPS)
def test_clients_are_waited_for_only_so_long(loop: str, interface: str, tmp_path: Path) -> None:
    """Silence and a connection that idles end without a word, a head that stops in the middle with 408."""
    limits = ("--header-timeout", f"{SECONDS}", "--keep-alive-timeout", f"{SECONDS}")
    with running(interface, loop, tmp_path, *limits) as process, contextlib.ExitStack() as stack:
        silent, slow, idle, later = (stack.enter_context(connected(process.address)) for _ in range(4))
        began = time.monotonic()
        slow.sendall(HEAD)
        for sock in (idle, later):
            send_request(sock, "/hello")
            assert read_answer(sock).status == 200
        later.sendall(HEAD)  # the head of a second request, which does not end
        for sock, status in ((silent, []), (slow, [408]), (idle, []), (later, [408])):
            assert [answer.status for answer in read_answers(read_all(sock))] == status
            assert time.monotonic() - began >= SECONDS - STEP


def test_a_body_has_to_come_at_some_rate(tmp_path: Path) -> None:
    """Of both interfaces at once, on each loop that is tested as a whole: the first look comes after some seconds."""
    rate = 1000
    with contextlib.ExitStack() as stack:
        slow, good, processes = [], [], []
        for loop, interface in itertools.product(WHOLE, INTERFACES):
            folder = tmp_path / f"{loop}-{interface}"
            folder.mkdir()
            processes.append(stack.enter_context(running(interface, loop, folder, "--min-body-rate", f"{rate}")))
        for process in processes:  # all are there: the good clients must not wait for a start
            for socks in (slow, good):
                sock = stack.enter_context(connected(process.address))
                sock.sendall(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
                socks.append(sock)
        waiting, until = set(slow), time.monotonic() + DEADLINE
        while waiting and time.monotonic() < until:
            for sock in select.select(list(waiting), [], [], 0.1)[0]:
                assert read_answer(sock).status == 408
                waiting.discard(sock)
            for sock in waiting:
                with contextlib.suppress(OSError):  # it may be refused by now: then its answer is read next
                    sock.sendall(b"a")
            for sock in good:
                sock.sendall(b"a" * rate * 10)  # enough for seconds in which this process does not run
        assert not waiting
        assert not select.select(good, [], [], 0)[0]


# --- numbers


@pytest.fixture(scope="module", params=[(loop, interface) for loop in LOOPS for interface in INTERFACES], ids="-".join)
def few(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """Two connections at a time, with three requests each."""
    loop, interface = request.param
    arguments = ("--max-connections", "2", "--max-requests-per-connection", "3")
    with running(interface, loop, tmp_path_factory.mktemp("few"), *arguments) as process:
        yield process


def test_a_connection_ends_with_the_last_of_its_requests(few: HybridProcess) -> None:
    """Which is announced, whether they come one by one or all at once."""
    with connected(few.address) as sock:
        for expected in (None, None, "close"):
            send_request(sock, "/hello")
            assert read_answer(sock).header("connection") == expected
        assert sock.recv(1) == b""
    with connected(few.address) as sock:
        sock.sendall((HEAD + b"\r\n") * 5)
        answers = read_answers(read_all(sock))
    assert [answer.field(b"connection") for answer in answers] == [None, None, b"close"]


def test_more_connections_wait_until_one_ends(few: HybridProcess) -> None:
    """They are neither refused nor answered with 503."""
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(connected(few.address)) for _ in range(2)]
        for sock in served:
            send_request(sock, "/hello")
            assert read_answer(sock).status == 200
        waiting = [stack.enter_context(connected(few.address)) for _ in range(3)]
        for sock in waiting:
            send_request(sock, "/hello", "connection: close")
        for sock in served:
            send_request(sock, "/hello")
            assert read_answer(sock).status == 200
        assert not select.select(waiting, [], [], 0)[0]
        served[0].close()
        for sock in waiting:
            assert read_answer(sock).status == 200


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_pipeline_is_read_only_so_far_and_answered_in_order(loop: str, interface: str, tmp_path: Path) -> None:
    """While the first answer waits for its client, a few requests behind it are taken, and the rest stay outside."""
    blocks, count = 320, 1000  # 20 MiB for each side: more than the kernel keeps
    wire = b"".join(
        b"GET /hello?%d HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (number, b"a" * 20_000) for number in range(count)
    )
    with running(interface, loop, tmp_path, "--max-pipelined", "4") as process, connected(process.address) as sock:
        (worker,) = process.worker_pids()
        before = resident(worker)
        send_request(sock, f"/pieces?{blocks}")
        sent = _send_until_full(sock, wire)
        assert sent < len(wire)
        assert resident(worker) - before < 16 * 2**20
        sender = threading.Thread(target=sock.sendall, args=(wire[sent:],))
        sender.start()
        with sock.makefile("rb") as reader:
            assert len(read_body(reader)) == blocks * 65_536
            assert [read_body(reader) for _ in range(count)] == [b"hello %d" % number for number in range(count)]
        sender.join()


def _send_until_full(sock: socket.socket, data: bytes) -> int:
    """Send until nobody takes more for a while; return how many bytes were taken."""
    sent = 0
    while sent < len(data) and select.select([], [sock], [], 0.3)[1]:
        sent += sock.send(data[sent : sent + 65_536], socket.MSG_DONTWAIT)
    return sent
