"""`hybrid init`, then `hybrid check` and `hybrid run` with the file that it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.process import HybridProcess
from support.service import serving

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
HANDLER = "async def handle(reader, writer):\n    writer.close()\n"
FACTORY = "def create_app():\n    from flask import Flask\n    return Flask(__name__)\n"


def run(*arguments: str, cwd: Path) -> tuple[int, str]:
    process = HybridProcess(*arguments, cwd=cwd)
    try:
        return process.wait(), process.stdout
    finally:
        process.close()


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("src/shop.py", FASTAPI, "ASGI application"),
        ("chat.py", HANDLER, "async stream handler"),
        ("shop/web.py", FACTORY, "WSGI application"),
    ],
)
def test_the_file_that_is_written_is_accepted_by_check(tmp_path: Path, name: str, source: str, kind: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(source)
    assert run("init", cwd=tmp_path)[0] == 0
    _, out = run("check", "--bind", "127.0.0.1:0", "--json", cwd=tmp_path)
    levels = {one["what"]: (one["level"], one["why"]) for one in json.loads(out)["findings"]}
    assert levels["options"][0] == "ok"
    assert levels["target"][0] == "ok"
    assert kind in levels["target"][1]


def test_the_service_that_is_written_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FACTORY)
    assert run("init", cwd=tmp_path)[0] == 0
    with serving("web", "--workers", "1", cwd=tmp_path) as process:
        process.wait_for_log(r"web/0 .*ready on epoll \(wsgi\)")
