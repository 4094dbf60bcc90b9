"""docs/offload.md: its programs run from an empty directory as they are printed, and compute in offload workers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from support.clients import TIMEOUT, ask
from support.process import HybridProcess
from support.service import eventually, serving

TEXT = (Path(__file__).resolve().parents[2] / "docs/offload.md").read_text(encoding="utf-8")
SOURCES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


@contextmanager
def running(name: str, attribute: str, cwd: Path, *options: str) -> Iterator[HybridProcess]:
    """Run a program of the document, and nothing else: the directory has only this file."""
    (cwd / f"{name}.py").write_text(SOURCES[f"{name}.py"], encoding="utf-8")
    fixed = ("--workers", "1", "--offload-workers", "1")
    # the queue of calls, and what the supervisor holds of each companion
    growth = 3 + 2 * ("--companion" in options)
    with serving(f"{name}:{attribute}", *fixed, *options, cwd=cwd, env={"PYTHONPATH": ""}, growth=growth) as process:
        yield process
        process.wait_for_log(r"(cpu|ml)/0 gen=1 pid=\d+ ready for offloaded calls")


@pytest.fixture
def picture() -> bytes:
    written = io.BytesIO()
    Image.new("RGBA", (640, 320), "red").save(written, "PNG")
    return written.getvalue()


def client_of(process: HybridProcess) -> httpx.Client:
    host, port = process.address
    return httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=TIMEOUT)


def test_the_document_has_these_programs() -> None:
    assert set(SOURCES) == {"thumbnails.py", "report.py", "primes.py", "forecast.py", "scores.py"}


def test_fastapi_makes_a_thumbnail_of_a_picture(picture: bytes, tmp_path: Path) -> None:
    with running("thumbnails", "app", tmp_path) as process, client_of(process) as client:
        answer = client.post("/thumbnail", content=picture)
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as small:
            assert (small.format, small.size) == ("JPEG", (200, 100))


def test_fastapi_gets_the_error_of_pillow_for_what_is_no_picture(tmp_path: Path) -> None:
    with running("thumbnails", "app", tmp_path) as process, client_of(process) as client:
        assert client.post("/thumbnail", content=b"text").status_code == 415


def test_flask_on_gevent_makes_a_report(tmp_path: Path) -> None:
    with running("report", "app", tmp_path, "--loop", "gevent") as process, client_of(process) as client:
        expected = sum(day * 7 % 97 for day in range(2024 * 5 * 10))
        assert client.get("/report/2024/5").text == f"2024-05: {expected}\n"
        assert client.get("/").text == "this answers meanwhile\n"


def test_a_tcp_server_counts_primes(tmp_path: Path) -> None:
    with running("primes", "handle", tmp_path) as process:
        assert ask(process.address, b"10\n1000\n") == b"4\n168\n"


def test_a_companion_computes_a_forecast(tmp_path: Path) -> None:
    with (
        running("forecast", "app", tmp_path, "--companion", "refresh=forecast:refresh") as process,
        client_of(process) as client,
    ):

        def forecast() -> list[int] | None:
            answer = client.get("/forecast")
            return list(answer.json()) if answer.status_code == 200 else None

        temperatures = eventually(forecast, "the companion has written a forecast")
        assert temperatures == [sum(n * day % 31 for n in range(50_000)) % 40 for day in range(7)]


def test_a_model_is_loaded_in_the_process_of_its_pool(tmp_path: Path) -> None:
    with running("scores", "app", tmp_path, "--offload", "ml=1") as process, client_of(process) as client:
        assert client.get("/score", params={"text": "good, excellent and bad"}).json() == {"score": 12}
