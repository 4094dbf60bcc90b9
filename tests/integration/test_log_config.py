"""`--log-config`: `logging` is configured before the application is imported, and mistakes are found at the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.clients import ask
from support.process import HybridProcess
from support.service import eventually, serving
from support.template import APPLICATIONS

APPS = {"PYTHONPATH": str(APPLICATIONS)}
TOML = """\
version = 1
disable_existing_loggers = true

[formatters.plain]
format = "%(levelname)s from %(name)s: %(message)s"

[handlers.file]
class = "logging.FileHandler"
filename = "shop.log"
formatter = "plain"

[root]
level = "INFO"
handlers = ["file"]
"""
BAD_CLASS = TOML.replace("logging.FileHandler", "shop.NoHandler")
AS_JSON = json.dumps(
    {
        "version": 1,
        "formatters": {"plain": {"format": "%(levelname)s from %(name)s: %(message)s"}},
        "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": "INFO", "handlers": ["err"]},
    },
    indent=1,
)


@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_application_logs_as_the_file_says_and_hybrid_as_before(preload: str, tmp_path: Path) -> None:
    (tmp_path / "logging.toml").write_text(TOML)
    options = ("--workers", "1", "--preload", preload, "--log-config", "logging.toml")
    with serving("talkative:wsgi", *options, cwd=tmp_path) as process:
        ask(process.address, b"GET /log HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        log = tmp_path / "shop.log"
        eventually(lambda: "INFO from shop.views: sold 3" in log.read_text(), "its line")
    assert "ready on epoll" in process.stderr
    assert "sold" not in process.stderr


def test_lines_of_its_handlers_are_captured(tmp_path: Path) -> None:
    (tmp_path / "logging.json").write_text(AS_JSON)
    options = ("--workers", "1", "--log-config", "logging.json", "--log-capture")
    with serving("talkative:wsgi", *options, cwd=tmp_path) as process:
        ask(process.address, b"GET /log HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        process.wait_for_log(r"web/0 gen=1 pid=\d+ stderr: INFO from shop.views: sold 3")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("l.toml", "version = 1\nroot = {\n", "l.toml:2:9: "),
        ("l.json", '{"version": 1,\n "root" 1}', "l.json:2:9: Expecting ':' delimiter"),
        ("l.json", "[]", "l.json:1:1: it must be a table"),
        ("l.toml", "", "l.toml:1:1: it must contain version = 1"),
        ("l.ini", "", "l.ini: its name tells its form"),
        ("l.toml", None, "l.toml: cannot be read: No such file"),
        ("l.toml", BAD_CLASS, "l.toml:7: Unable to configure handler 'file': "),
    ],
)
def test_a_mistake_ends_the_start_with_its_place(name: str, text: str | None, complaint: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    for command in (("run", "--bind", "127.0.0.1:0", "--preload", "on"), ("check",)):
        process = HybridProcess(*command, "--log-config", name, "plain:handle", cwd=tmp_path, env=APPS)
        try:
            assert process.wait() in (1, 2)
            assert f"{tmp_path}/{complaint}" in process.stderr + process.stdout
        finally:
            process.close()
