"""A sync handler that raises while a file of its socket is open: its connection ends at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clients import connected, read_all
from support.loops import LOOPS
from support.service import serving

APP = """
import gc
gc.disable()  # what only a collection frees stays

def handle(sock, address):
    file = sock.makefile("rwb")
    file.readline()
    raise ValueError("on purpose")
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handler_that_raises_with_a_file_open_ends_its_connection(loop: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with serving("app:handle", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        for _ in range(3):
            with connected(process.address) as sock:
                sock.sendall(b"x\n")
                assert read_all(sock) == b""
        process.wait_for_log("ValueError: on purpose", count=3)
