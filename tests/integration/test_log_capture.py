"""`--log-capture`: whatever workers write becomes records of the log, on every loop."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import ask
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving

CAPTURED = ("--workers", "1", "--log-capture", "--log-format", "json")


@contextlib.contextmanager
def running(loop: str, cwd: Path, *arguments: str, **options: Any) -> Iterator[HybridProcess]:
    """Serve; the log is JSON, so readiness is read from there."""
    with serving("talkative:wsgi", "--loop", loop, *CAPTURED, *arguments, cwd=cwd, ready=False, **options) as process:
        eventually(lambda: said(process, "ready on"), "it is ready")
        yield process


def records(process: HybridProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.lines]  # every line parses


def said(process: HybridProcess, text: str) -> dict[str, Any] | None:
    """Return the first record with a text; None if there is none yet."""
    return next((one for one in records(process) if text in one["message"]), None)


def get(process: HybridProcess, target: str) -> bytes:
    found = said(process, "listening on")
    assert found is not None
    host, _, port = found["message"].split()[-1].rpartition(":")
    return ask((host, int(port)), f"GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())


def waits_for(process: HybridProcess, text: str, *, traceback: bool = False) -> dict[str, Any]:
    """Wait for the first record with a text, and with a traceback if that is asked for."""

    def found() -> dict[str, Any] | None:
        fitting = (one for one in records(process) if "traceback" in one or not traceback)
        return next((one for one in fitting if text in one["message"]), None)

    record = eventually(found, f"a record {text!r} in {process.lines}")
    assert record is not None
    return record


def whole_line(process: HybridProcess) -> list[str]:
    """Return the pieces of the line of x, once its last one is there."""
    pieces = [one["message"] for one in records(process) if one["message"].startswith("xxx")]
    return [] if not pieces or pieces[-1].endswith(" [continues]") else pieces


@pytest.mark.parametrize("loop", LOOPS)
def test_all_output_of_a_worker_becomes_records(loop: str, tmp_path: Path) -> None:
    with running(loop, tmp_path) as process:
        for path in ("/print", "/log", "/warn", "/child", "/fd", "/thread", "/long", "/half", "/fail"):
            get(process, path)
        worker = waits_for(process, "ready on")["pid"]
        own = {"service": "web", "slot": 0, "generation": 1, "pid": worker, "level": "info"}
        for text, stream in (("to stdout", "stdout"), ("to stderr", "stderr"), ("bytes \\xff", "stdout")):
            found = waits_for(process, text)
            assert found == {**own, "stream": stream, "message": text, "time": found["time"]}
        assert waits_for(process, "imported")["stream"] == "stdout"
        sold = waits_for(process, "sold 3")
        assert (sold["logger"], sold["extra"], sold["service"]) == (
            "shop.views",
            {"price": 7, "service": "theirs"},
            "web",
        )
        failed = waits_for(process, "failed", traceback=True)
        assert failed["traceback"].rstrip().endswith("LookupError: no such\nitem")
        odd = waits_for(process, "UserWarning: odd stuff")
        assert (odd["level"], odd["logger"]) == ("warning", "py.warnings")
        for text in ("from a child", "and its stderr", "raw one", "raw two"):
            found = waits_for(process, text)
            assert found == {**own, "stream": "output", "message": text, "time": found["time"]}
        assert waits_for(process, "ZeroDivisionError: division by zero")["stream"] == "stderr"  # of the thread
        pieces = eventually(lambda: whole_line(process), "the pieces of the long line")
        assert "".join(piece.removesuffix(" [continues]") for piece in pieces) == "x" * 20_000
        assert [piece.endswith(" [continues]") for piece in pieces] == [True, True, False]
        assert "on purpose" in waits_for(process, "/fail", traceback=True)["traceback"]
        assert process.stop() == 0
    assert said(process, "no end")  # at the end of the worker
    assert process.stdout == ""


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize(
    ("path", "signal", "text"), [("/abort", "SIGABRT", "Aborted"), ("/segfault", "SIGSEGV", "Segm")]
)
def test_the_text_of_a_crash_is_records_of_the_worker(
    path: str, signal: str, text: str, preload: str, tmp_path: Path
) -> None:
    with running("epoll", tmp_path, "--preload", preload) as process:
        worker = waits_for(process, "ready on")["pid"]
        get(process, path)
        fatal = waits_for(process, f"Fatal Python error: {text}")
        assert (fatal["stream"], fatal["pid"], fatal["slot"]) == ("output", worker, 0)
        assert re.search(r'File ".*talkative.py", line \d+ in say', waits_for(process, "in say")["message"])
        death = waits_for(process, signal)
        order = [one["message"] for one in records(process)]
        assert order.index(fatal["message"]) < order.index(death["message"])
        eventually(lambda: sum("ready on" in line for line in process.lines) == 2, "a successor is ready")


def test_output_is_captured_below_the_level_of_the_log(tmp_path: Path) -> None:
    """Otherwise the text of a crash would be lost with `--log-level error`."""
    with serving(
        "talkative:wsgi", "--workers", "1", "--log-capture", "--log-level", "error", "--log-file", "run.log",
        "--bind", "unix:s", cwd=tmp_path, ready=False,
    ) as process:  # fmt: skip
        log = tmp_path / "run.log"
        eventually(lambda: log.exists() and "stdout: imported" in log.read_text(), "the import has printed")
        eventually((tmp_path / "s").exists, "it listens")
        ask(str(tmp_path / "s"), b"GET /fd HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        eventually(lambda: "output: raw two" in log.read_text(), "raw lines are logged")
        ask(str(tmp_path / "s"), b"GET /log HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        eventually(lambda: "shop.views: failed" in log.read_text(), "errors are logged")
        assert "sold" not in log.read_text()
        assert process.stop() == 0


def test_the_access_log_still_goes_to_stdout(tmp_path: Path) -> None:
    with running("epoll", tmp_path, "--access-log", "json") as process:
        get(process, "/fd")
        waits_for(process, "raw one")
        eventually(lambda: process.stdout.count("\n") == 1, "a line of the access log")
        assert json.loads(process.stdout)["target"] == "/fd"


def test_nothing_waits_for_a_log_that_is_not_read(tmp_path: Path) -> None:
    """The log is a pipe, which holds less than is written. What is lost is counted, and each line still parses."""
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        options = (*CAPTURED, "--log-file", "log", "--bind", f"unix:{tmp_path}/s")
        with serving("talkative:wsgi", *options, cwd=tmp_path, ready=False) as process:
            eventually(
                lambda: "ready on" in (tmp_path / "seen").read_text() if drained(reader, tmp_path) else "", "ready"
            )
            for _ in range(30):
                for path in ("/long", "/log", "/fd"):
                    answer = ask(
                        str(tmp_path / "s"), f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
                    )
                    assert answer.startswith(b"HTTP/1.1 200")
            drained(reader, tmp_path)
            ask(str(tmp_path / "s"), b"GET /log HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            drained(reader, tmp_path)
            assert process.stop() == 0
        drained(reader, tmp_path)
    finally:
        os.close(reader)
    found = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert any("log records lost" in one["message"] for one in found)
    assert found[-1]["message"] == "stopped"


def drained(reader: int, tmp_path: Path) -> bool:
    """Append what the pipe holds to a file."""
    with (tmp_path / "seen").open("ab") as seen, contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 65536):
            seen.write(piece)
    return True


def test_a_worker_that_becomes_the_zygote_and_its_forks_are_captured(tmp_path: Path) -> None:
    with running("epoll", tmp_path, "--refork-after", "3") as process:
        for _ in range(4):
            get(process, "/fd")
        eventually(lambda: max(ready_workers(process)) > 1, "a worker of the next zygote")
        generation = max(ready_workers(process))
        assert generation > 1

        def is_captured() -> bool:
            get(process, "/fd")
            raw = [one for one in records(process) if one["message"] == "raw two"]
            return any(one["generation"] == generation for one in raw)

        eventually(is_captured, "a line of a worker that the new zygote has forked")
        assert process.stop() == 0


def ready_workers(process: HybridProcess) -> list[int]:
    """Return the generations of the workers that have become ready."""
    return [one["generation"] for one in records(process) if "ready on" in one["message"]]
