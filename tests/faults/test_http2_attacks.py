"""Attacks by HTTP/2 over sockets: the offender is ended, other clients are served, the memory is bounded."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

import pytest
from support import frames
from support.clients import connected, read_all
from support.frames import GET, POST, PREFACE
from support.loops import LOOPS
from support.process import HybridProcess
from support.rows import for_each
from support.service import resident, serving

ATTACKED = [loop for loop in ("epoll", "uvloop", "gevent") if loop in LOOPS]
OPEN = frames.END_HEADERS
HELLO = PREFACE + frames.settings()
GROWTH = 12 << 20  # bytes that a worker may grow by
CALM, PROTOCOL, INTERNAL = frames.ENHANCE_YOUR_CALM, frames.PROTOCOL_ERROR, frames.INTERNAL_ERROR


@pytest.fixture(scope="module", params=ATTACKED)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    cwd = tmp_path_factory.mktemp("attacked")
    options = ("--workers", "1", "--loop", request.param, "--send-timeout", "1")
    with serving("counting:asgi", *options, cwd=cwd) as process:
        yield process
        assert "Traceback" not in process.stderr, process.stderr


def _many(count: int, make: Callable[[int], bytes]) -> bytes:
    return b"".join(make(number) for number in range(count))


def _request(stream: int, path: bytes = b"/") -> bytes:
    return frames.headers(stream, (*GET[:2], (b":path", path), GET[3]))


ATTACKS = [
    ("rapid reset", HELLO + _many(600, lambda n: _request(2 * n + 1) + frames.reset(2 * n + 1)), INTERNAL),
    (
        "CONTINUATION",
        HELLO
        + frames.headers(1, GET, 0)
        + _many(50, lambda n: frames.frame(frames.CONTINUATION, 1, frames.block(((b"x", b"y"),)))),
        CALM,
    ),
    ("PING", HELLO + frames.frame(frames.PING, payload=b"12345678") * 3000, CALM),
    ("SETTINGS", HELLO + frames.settings((frames.MAX_FRAME_SIZE, 16_384)) * 3000, CALM),
    ("WINDOW_UPDATE", HELLO + frames.window_update(0, 1) * 3000, CALM),
    ("PRIORITY_UPDATE", HELLO + frames.frame(frames.PRIORITY_UPDATE, 0, b"\0\0\0\1u=1") * 3000, CALM),
    ("empty DATA", HELLO + frames.headers(1, POST, OPEN) + frames.frame(frames.DATA, 1) * 20_000, CALM),
    ("a window that overflows", HELLO + frames.window_update(0, 2**31 - 1) * 2, frames.FLOW_CONTROL_ERROR),
    (
        "windows of a byte",
        PREFACE
        + frames.settings((frames.INITIAL_WINDOW, 1))
        + _request(1, b"/" + b"a" * 5000)
        + frames.window_update(1, 1) * 3000,
        CALM,
    ),
    ("an HPACK bomb", HELLO + frames.headers(1, (*GET, *((b"x", b"y"),) * 400)), CALM),
    ("a stream of the server", HELLO + frames.headers(2), PROTOCOL),
    ("a frame that is too large", HELLO + frames.frame(frames.DATA, 1, length=1 << 20), frames.FRAME_SIZE_ERROR),
    ("a bad preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames.frame(frames.PING, payload=b"12345678"), PROTOCOL),
]


def _is_served(process: HybridProcess) -> bool:
    with connected(process.address) as sock:
        sock.sendall(HELLO + _request(1, b"/good") + frames.goaway())
        found = frames.read(read_all(sock))
    return any(each.kind == frames.DATA and each.payload == b"GET /good " for each in found)


@for_each("attack", ATTACKS, ids=lambda attack: attack[0])
def test_an_offender_is_ended_with_the_reason_and_others_are_served(
    service: HybridProcess, attack: tuple[str, bytes, int]
) -> None:
    _, flood, code = attack
    before = resident(service.worker_pids()[0])
    with connected(service.address) as sock:
        sock.sendall(flood)
        found, _ = frames.whole(read_all(sock))
    assert [frames.goaway_of(each)[1] for each in found if each.kind == frames.GOAWAY][-1:] == [code]
    assert _is_served(service)
    assert resident(service.worker_pids()[0]) - before < GROWTH


def test_a_client_that_does_not_read_is_cut(service: HybridProcess) -> None:
    """It asks for a hundred answers of 60 KiB."""
    before = resident(service.worker_pids()[0])
    with connected(service.address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(PREFACE + frames.settings((frames.INITIAL_WINDOW, 1 << 20)) + frames.window_update(0, 1 << 30))
        body = frames.frame(frames.DATA, 0, b"x" * 15_000)
        for stream in range(1, 201, 2):
            pieces = [body[:5] + stream.to_bytes(4, "big") + body[9:]] * 4
            ends = frames.frame(frames.DATA, stream, b"", frames.END_STREAM)
            sock.sendall(frames.headers(stream, POST, OPEN) + b"".join(pieces) + ends)
            assert resident(service.worker_pids()[0]) - before < GROWTH
            if stream == 1:
                assert _is_served(service)
        hung_up = select.poll()
        hung_up.register(sock, select.POLLHUP | select.POLLERR)
        assert hung_up.poll(30_000), "it is not cut"
    assert _is_served(service)
