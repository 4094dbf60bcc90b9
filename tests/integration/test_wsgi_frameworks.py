"""Flask and Django as in their documentation, on every loop, with two workers; clients are httpx, aiohttp and curl."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.descriptors import links
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving

pytest.importorskip("flask")
pytest.importorskip("django")
httpx = pytest.importorskip("httpx")
aiohttp = pytest.importorskip("aiohttp")

DATA = os.urandom(3_000_000)
PLACES = {
    **{loop: ("--loop", loop) for loop in LOOPS},
    **{f"{loop}-threads": ("--loop", loop, "--threads", "4") for loop in LOOPS if loop == "epoll"},
    **{f"{loop}-greenlets": ("--loop", loop, "--threads", "0") for loop in LOOPS if loop in ("asyncio", "uvloop")},
}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def running(target: str, place: str, cwd: Path) -> Iterator[HybridProcess]:
    with serving(target, "--workers", "2", *PLACES[place], cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module")
def flask(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """The Flask application for all tests; its state is in its clients' cookies."""
    with running("wsgi_flask:app", place, tmp_path_factory.mktemp("flask")) as process:
        yield process


@pytest.fixture(scope="module")
def django(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """The Django application for all tests; only one of them votes."""
    with running("wsgi_django:application", place, tmp_path_factory.mktemp("django")) as process:
        yield process


def base(process: HybridProcess) -> str:
    host, port = process.address
    return f"http://{host}:{port}"


@contextmanager
def client_of(process: HybridProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base(process), follow_redirects=True, trust_env=False, timeout=20) as client:
        yield client


# --- Flask


def test_flask_keeps_a_session(flask: HybridProcess) -> None:
    with client_of(flask) as client:
        assert client.get("/").text == "You are not logged in"
        assert client.post("/login", data={"username": "<Änne>"}).text == "Logged in as &lt;Änne&gt;"
        assert client.get("/flashed").json() == ["You were successfully logged in"]
        assert client.get("/flashed").json() == []
        assert client.get("/logout").text == "You are not logged in"
        assert [client.get("/cookie").text for _ in range(3)] == ["0", "1", "2"]
        assert client.cookies["second"] == "another"


def test_flask_reads_and_sends(flask: HybridProcess, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    with client_of(flask) as client:
        assert client.get("/hello/Ärzte").text == "<h1>Hello Ärzte!</h1>"
        assert client.get("/search", params={"key": "a b&c"}).json() == {
            "key": "a b&c",
            "url": "/hello/John%20Doe",
            "remote": "127.0.0.1",
        }
        uploaded = client.post("/upload", files={"the_file": ("../my file.bin", DATA)}, data={"note": "größer"}).json()
        assert uploaded == {"name": "my_file.bin", "digest": hashlib.sha256(DATA).hexdigest(), "note": "größer"}
        assert client.post("/json", json={"a": [1, None]}).json() == {"a": [1, None]}
        whole = client.get("/download", params={"path": f"{tmp_path}/data.bin"})
        assert whole.content == DATA
        part = {"range": "bytes=1000-1999"}
        assert client.get("/download", params={"path": f"{tmp_path}/data.bin"}, headers=part).content == DATA[1000:2000]
        unchanged = {"if-none-match": whole.headers["etag"]}
        assert client.get("/download", params={"path": f"{tmp_path}/data.bin"}, headers=unchanged).status_code == 304
        assert client.get("/large.csv?rows=5000").text == "".join(f"{row},5000\n" for row in range(5000))


def test_flask_answers_errors(flask: HybridProcess) -> None:
    with client_of(flask) as client:
        assert client.get("/denied").status_code == 401
        assert client.get("/nowhere").text == "This page does not exist: /nowhere"
        assert client.get("/broken").status_code == 500
        flask.wait_for_log("LookupError: a broken view")
        assert client.delete("/").status_code == 405
        assert client.options("/login").headers["allow"].replace(" ", "").count(",") == 3
        assert client.head("/").text == ""


def test_flask_serves_many_clients_of_aiohttp(flask: HybridProcess) -> None:
    """Only its own request sees a Flask context; a chunked upload arrives completely."""

    async def ask(process: HybridProcess) -> None:
        async def pieces() -> Iterator[bytes]:  # type: ignore[misc]
            for start in range(0, len(DATA), 100_000):
                yield DATA[start : start + 100_000]

        async with aiohttp.ClientSession(base(process)) as session:

            async def once(number: int) -> None:
                async with session.get("/search", params={"key": str(number)}) as answer:
                    assert (await answer.json())["key"] == str(number)
                async with session.get("/seen") as answer:
                    assert (await answer.json())["seen"] == 1

            await asyncio.gather(*[once(number) for number in range(100)])
            form = aiohttp.FormData({"note": "streamed"})
            form.add_field("the_file", pieces(), filename="pieces")
            async with session.post("/upload", data=form) as answer:
                assert (await answer.json())["digest"] == hashlib.sha256(DATA).hexdigest()

    asyncio.run(asyncio.wait_for(ask(flask), 30))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_flask_takes_an_upload_of_curl(flask: HybridProcess, tmp_path: Path) -> None:
    """Curl asks for 100 Continue first."""
    (tmp_path / "data.bin").write_bytes(DATA)
    command = ["curl", "-sS", "--noproxy", "*", "-H", "Expect: 100-continue", "--expect100-timeout", "20"]
    fields = ["-F", f"the_file=@{tmp_path}/data.bin", "-F", "note=curl", f"{base(flask)}/upload"]
    done = subprocess.run([*command, *fields], capture_output=True, text=True, timeout=30, check=True)
    assert hashlib.sha256(DATA).hexdigest() in done.stdout


# --- Django


def test_django_votes_in_its_polls(django: HybridProcess) -> None:
    with client_of(django) as client:
        assert client.get("/polls/").text == "What's new?"
        form = client.get("/polls/1/").text
        match = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert match is not None
        token = {"csrfmiddlewaretoken": match[1]}
        assert "You didn&#x27;t select a choice." in client.post("/polls/1/vote/", data=token).text
        for _ in range(3):
            assert "The sky" in client.post("/polls/1/vote/", data={**token, "choice": "2"}).text
        assert "The sky: 3" in client.get("/polls/1/results/").text
        assert client.get("/about").json()["voted"] is True
        client.cookies.clear()
        assert client.post("/polls/1/vote/", data={"choice": "2"}).status_code == 403


def test_django_sends_files_and_streams(django: HybridProcess, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    with client_of(django) as client:
        answer = client.get("/download", params={"path": f"{tmp_path}/data.bin"})
        assert answer.content == DATA
        assert answer.headers["content-disposition"] == 'attachment; filename="data.bin"'
        assert client.get("/stream").text == "".join(f"{number}\n" for number in range(1000))
        for worker in django.worker_pids():
            eventually(lambda pid=worker: not _holds(pid, "data.bin"), "the file is closed")  # type: ignore[misc]


def test_django_knows_its_address_and_its_errors(django: HybridProcess) -> None:
    with client_of(django) as client:
        assert client.get("/about").json() == {"uri": f"{base(django)}/about", "secure": False, "voted": False}
        assert client.get("/polls").url.path == "/polls/"
        assert client.get("/polls/99/").status_code == 404
        assert client.get("/broken").status_code == 500


def _holds(pid: int, name: str) -> bool:
    return any(link.endswith(name) for link in links(pid).values())
