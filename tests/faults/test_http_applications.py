"""Applications that try to exit: on every loop, the worker answers 500 and continues to serve."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clients import connected
from support.loops import LOOPS
from support.service import serving
from support.wsgi import read_answer, send_request


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_that_exits_ends_only_its_request(loop: str, interface: str, tmp_path: Path) -> None:
    arguments = ("--loop", loop, "--workers", "1")
    with serving(f"pressed:{interface}", *arguments, cwd=tmp_path) as process, connected(process.address) as sock:
        workers = process.worker_pids()
        for path, status in (("/leave", 500), ("/hello", 200), ("/leave", 500), ("/hello", 200)):
            send_request(sock, path)
            assert read_answer(sock).status == status
        assert process.worker_pids() == workers
        assert process.wait_for_log("the application failed at GET /leave", count=2)
        assert process.wait_for_log("SystemExit: 3", count=2)
