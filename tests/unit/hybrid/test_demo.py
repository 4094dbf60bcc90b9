"""The demonstration's handler, over a socket pair on asyncio: what it says, and what it does not put up with."""

from __future__ import annotations

import asyncio
import os
import re
import socket

import pytest

from hybrid import demo


async def _converse(request: bytes, *, half_close: bool) -> bytes:
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    client_reader, client_writer = await asyncio.open_connection(sock=far)
    async with asyncio.timeout(20):
        serving = asyncio.ensure_future(demo.handle(reader, writer))
        client_writer.write(request)
        if half_close:
            client_writer.write_eof()
        answer = await client_reader.read()
        client_writer.close()
        await client_writer.wait_closed()
        await serving
        await writer.wait_closed()
    return answer


def converse(request: bytes, *, half_close: bool = True) -> str:
    """Send `request`, and an end of stream if told so; return all that is answered until the handler closes."""
    return asyncio.run(_converse(request, half_close=half_close)).decode()


def body_of(answer: str) -> str:
    return answer.partition("\r\n\r\n")[2]


def test_a_browser_gets_a_page_that_names_the_worker() -> None:
    answer = converse(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", half_close=False)
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert str(os.getpid()) in body_of(answer)


def test_the_page_is_as_long_as_its_header_says() -> None:
    answer = converse(b"GET / HTTP/1.1\r\n\r\n", half_close=False)
    length = re.search(r"Content-Length: (\d+)\r\n", answer)
    assert length is not None
    assert int(length[1]) == len(body_of(answer).encode())


def test_head_gets_the_headers_alone() -> None:
    answer = converse(b"HEAD / HTTP/1.0\r\n\r\n", half_close=False)
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert answer.endswith("\r\n\r\n")
    assert "Content-Length: 0" not in answer


def test_other_methods_are_told_which_are_allowed() -> None:
    answer = converse(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nignore me")
    assert answer.startswith("HTTP/1.1 405 ")
    assert "Allow: GET, HEAD\r\n" in answer


def test_too_many_headers_are_refused() -> None:
    answer = converse(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (demo.MAX_HEADERS + 1))
    assert answer.startswith("HTTP/1.1 431 ")


def test_a_request_that_ends_within_its_headers_is_answered_all_the_same() -> None:
    """Whoever types a request by hand forgets the empty line."""
    assert converse(b"GET / HTTP/1.1\r\nHost").startswith("HTTP/1.1 200 OK")


def test_each_line_is_answered_with_the_worker_and_the_line() -> None:
    first, second = converse(b"hello\r\nthere").splitlines()
    assert first.endswith(": you said 'hello'")
    assert second.endswith(": you said 'there'")
    assert f"pid={os.getpid()}" in first


def test_answers_are_counted() -> None:
    numbers = [int(match) for match in re.findall(r"answer (\d+):", converse(b"a\nb\n"))]
    assert numbers[1] == numbers[0] + 1


@pytest.mark.parametrize("word", [b"quit", b"EXIT "])
def test_quit_ends_the_conversation(word: bytes) -> None:
    assert converse(word + b"\n", half_close=False) == "bye\n"


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert "\ufffd" in converse(b"\xff\n")


@pytest.mark.parametrize("size", [demo.MAX_LINE + 1, 200_000])
def test_a_line_without_end_is_cut_off(size: int) -> None:
    assert converse(b"x" * size) == f"bye: a line has at most {demo.MAX_LINE} bytes here\n"


def test_silence_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PATIENCE", 0.02)
    assert converse(b"half a line", half_close=False) == "bye: nothing heard for 0.02 seconds\n"


def test_a_client_that_goes_on_sending_after_the_answer_is_not_heard_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LINGER", 0.02)
    assert converse(b"PUT / HTTP/1.1\r\n\r\n", half_close=False).startswith("HTTP/1.1 405 ")


def test_an_empty_connection_is_closed_without_a_word() -> None:
    assert converse(b"") == ""


def test_a_client_that_resets_ends_the_handler_quietly() -> None:
    async def scenario() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        reader, writer = await asyncio.open_connection(sock=accepted)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close sends a reset
        client.close()
        listener.close()
        async with asyncio.timeout(20):
            await demo.handle(reader, writer)

    asyncio.run(scenario())
