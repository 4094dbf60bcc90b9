"""Static files over ASGI: middleware sees their content unless the server is configured to send them itself."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.service import serving
from support.wsgi import read_answer, send_request

CONTENT = b"a page that compresses well\n" * 1000


@pytest.mark.parametrize(("options", "coding"), [((), "gzip"), (("--pathsend",), None)], ids=["default", "pathsend"])
@pytest.mark.parametrize("loop", LOOPS)
def test_middleware_compresses_a_file_unless_the_server_sends_it(
    loop: str, options: tuple[str, ...], coding: str | None, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "page.txt").write_bytes(CONTENT)
    arguments = ("--loop", loop, "--workers", "1", *options)
    with serving("zipped:app", *arguments, cwd=tmp_path) as process, connected(process.address) as sock:
        send_request(sock, "/static/page.txt", "accept-encoding: gzip")
        answer = read_answer(sock)
    assert answer.status == 200
    assert answer.header("content-encoding") == coding
    assert (gzip.decompress(answer.body) if coding else answer.body) == CONTENT
