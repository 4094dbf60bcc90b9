"""Handlers as the documentation of gevent and of asyncio shows them, unmodified, on every loop with two workers."""

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
CROWD = 1000  # connections at once; the select loop has 1,024 descriptors per worker, and two workers share them
ROUNDS = 100  # messages each


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gevent_echo(loop: str, tmp_path: Path) -> Iterator[HybridProcess]:
    with serving("documented:echo", "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        yield process


@pytest.fixture
def asyncio_echo(loop: str, tmp_path: Path) -> Iterator[HybridProcess]:
    with serving("documented:handle_echo", "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        yield process


def test_gevents_echo_server_welcomes_echoes_lines_and_quits(gevent_echo: HybridProcess) -> None:
    with connected(gevent_echo.address) as sock:
        assert read_exactly(sock, len(WELCOME)) == WELCOME
        sock.sendall(b"one\r\ntwo\r\n")
        assert read_exactly(sock, 10) == b"one\r\ntwo\r\n"
        sock.sendall(b"QUIT\r\n")
        assert sock.recv(1) == b""


def test_gevents_echo_server_holds_a_hundred_messages_with_each_of_a_thousand(gevent_echo: HybridProcess) -> None:
    assert converse(gevent_echo.address, CROWD, ROUNDS, greeting=WELCOME) == CROWD * ROUNDS


def test_asyncios_echo_callback_sends_one_message_back_and_closes(asyncio_echo: HybridProcess) -> None:
    assert ask(asyncio_echo.address, b"Hello World!") == b"Hello World!"


def test_asyncios_echo_callback_answers_a_thousand_at_once(asyncio_echo: HybridProcess) -> None:
    assert converse(asyncio_echo.address, CROWD, 1) == CROWD


def test_an_async_line_echo_holds_a_hundred_messages_with_each_of_a_thousand(loop: str, tmp_path: Path) -> None:
    with serving("documented:handle_lines", "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        assert converse(process.address, CROWD, ROUNDS) == CROWD * ROUNDS
