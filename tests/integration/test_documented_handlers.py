"""Handlers from the documentation of gevent and asyncio, unmodified, on every loop with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import ask, connected, read_exactly
from support.crowd import converse
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

WELCOME = b"Welcome to the echo server! Type quit to exit.\r\n"
THOROUGH = LOOPS if len(LOOPS) == 1 else ("epoll",)  # the loop matrix of tox gives each loop its turn


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def crowd(loop: str) -> tuple[int, int]:
    """The number of connections at once, and of messages each; select has 1,024 descriptors per worker."""
    return (1000, 20) if loop in THOROUGH else (200, 20)


@pytest.fixture(scope="module")
def gevent_echo(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    with serving("documented:echo", "--workers", "2", "--loop", loop, cwd=tmp_path_factory.mktemp("echo")) as process:
        yield process


@pytest.fixture(scope="module")
def asyncio_echo(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    cwd = tmp_path_factory.mktemp("echo")
    with serving("documented:handle_echo", "--workers", "2", "--loop", loop, cwd=cwd) as process:
        yield process


def test_gevents_echo_server_welcomes_echoes_lines_and_quits(gevent_echo: HybridProcess) -> None:
    with connected(gevent_echo.address) as sock:
        assert read_exactly(sock, len(WELCOME)) == WELCOME
        sock.sendall(b"one\r\ntwo\r\n")
        assert read_exactly(sock, 10) == b"one\r\ntwo\r\n"
        sock.sendall(b"QUIT\r\n")
        assert sock.recv(1) == b""


def test_gevents_echo_server_holds_many_messages_with_each_of_a_crowd(
    gevent_echo: HybridProcess, crowd: tuple[int, int]
) -> None:
    assert converse(gevent_echo.address, *crowd, greeting=WELCOME) == crowd[0] * crowd[1]


def test_asyncios_echo_callback_sends_one_message_back_and_closes(asyncio_echo: HybridProcess) -> None:
    assert ask(asyncio_echo.address, b"Hello World!") == b"Hello World!"


def test_asyncios_echo_callback_answers_a_thousand_at_once(asyncio_echo: HybridProcess) -> None:
    assert converse(asyncio_echo.address, 1000, 1) == 1000


def test_an_async_line_echo_holds_many_messages_with_each_of_a_crowd(
    loop: str, tmp_path: Path, crowd: tuple[int, int]
) -> None:
    with serving("documented:handle_lines", "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        assert converse(process.address, *crowd) == crowd[0] * crowd[1]
