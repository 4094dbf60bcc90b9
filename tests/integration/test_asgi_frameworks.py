"""Starlette, FastAPI and Django on ASGI as in their documentation, on every loop, with two workers.

One service for Starlette and one for FastAPI per loop serve the tests that do not change them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.loops import LOOPS
from support.process import DEADLINE, HybridProcess
from support.service import eventually, serving
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

httpx = pytest.importorskip("httpx")
DATA = os.urandom(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


class Place(NamedTuple):
    """A service, and the folder of its files and notes."""

    process: HybridProcess
    folder: Path


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def running(target: str, loop: str, cwd: Path, *arguments: str, **options: Any) -> Iterator[HybridProcess]:
    workers = () if "--workers" in arguments else ("--workers", "2")
    with serving(target, "--loop", loop, *workers, *arguments, cwd=cwd, **options) as process:
        yield process


@pytest.fixture(scope="module")
def starlette(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    pytest.importorskip("starlette")
    folder = tmp_path_factory.mktemp("starlette")
    with running("asgi_starlette:app", loop, folder) as process:
        yield Place(process, folder)


@pytest.fixture(scope="module")
def fastapi(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    pytest.importorskip("fastapi")
    folder = tmp_path_factory.mktemp("fastapi")
    with running("asgi_fastapi:app", loop, folder) as process:
        yield Place(process, folder)


@contextmanager
def client_of(process: HybridProcess) -> Iterator[httpx.Client]:
    host, port = process.address
    base = f"http://{host}:{port}"
    with httpx.Client(base_url=base, follow_redirects=True, trust_env=False, timeout=DEADLINE) as client:
        yield client


def ws(process: HybridProcess, path: str) -> Any:
    host, port = process.address
    return connect(f"ws://{host}:{port}{path}", ping_interval=None)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(2 * DEADLINE):
            await scenario

    asyncio.run(in_time())


def notes(cwd: Path) -> list[str]:
    path = cwd / "notes"
    return path.read_text().splitlines() if path.exists() else []


def numbers(count: int) -> str:
    return "".join(f"{number}\n" for number in range(count))


# --- Starlette


def test_starlette_routes_and_responds(starlette: Place) -> None:
    process = starlette.process
    with client_of(process) as client:
        host, port = process.address
        answer = client.get("/")
        assert answer.text == f"hello, http://{host}:{port}/user/Änne"
        assert answer.headers["x-stamp"] == "stamped"
        assert client.get("/user/Änne", params={"a": "b c&d"}).json() == {"user": "Änne", "query": {"a": "b c&d"}}
        saved = client.put("/user/x", json={"größe": [1, None]})
        assert (saved.status_code, saved.json()) == (201, {"saved": {"größe": [1, None]}})
        assert client.get("/old").json()["user"] == "new"
        assert client.get("/nowhere").text == "nothing at /nowhere"
        assert client.get("/forbidden").status_code == 403
        assert client.delete("/upload").status_code == 405
        assert client.head("/").text == ""
        assert client.get("/broken").status_code == 500
        process.wait_for_log("LookupError: a broken page")
        assert "thread" in client.get("/thread").text.lower()
        assert client.get("/too-slow").text == "cancelled True"


def test_starlette_reads_and_streams(starlette: Place) -> None:
    process, folder = starlette

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(DATA), 100_000):
            yield DATA[start : start + 100_000]

    (folder / "data.bin").write_bytes(DATA)
    with client_of(process) as client:
        assert client.post("/upload", content=DATA).json() == {"digest": DIGEST}
        assert client.post("/upload", content=pieces()).json() == {"digest": DIGEST}
        answer = client.get("/numbers", params={"count": 3000})
        assert (answer.text, answer.headers["content-encoding"]) == (numbers(3000), "gzip")
        assert client.get("/numbers", params={"count": 300, "threads": "1"}).text == numbers(300)
        whole = client.get("/download", params={"path": f"{folder}/data.bin"}, headers={"accept-encoding": "identity"})
        assert whole.content == DATA
        fields = {"range": "bytes=1000-1999", "accept-encoding": "identity"}
        part = client.get("/static/data.bin", headers=fields)
        assert (part.status_code, part.content) == (206, DATA[1000:2000])
        unchanged = {"if-none-match": part.headers["etag"]}
        assert client.get("/static/data.bin", headers=unchanged).status_code == 304
        with client.stream("GET", "/ticks") as answer:
            assert next(answer.iter_text()).startswith("data: tick")
        eventually(lambda: "no more ticks" in notes(folder), "the stream has heard that its client left")


def test_starlette_ends_background_work_after_responses_and_its_lifespan_at_a_stop(loop: str, tmp_path: Path) -> None:
    pytest.importorskip("python_multipart")
    with running("asgi_starlette:app", loop, tmp_path) as process, client_of(process) as client:
        answer = client.post("/signup", data={"name": "Änne"}, files={"file": ("a.bin", DATA)})
        assert answer.json() == {"name": "Änne", "digest": DIGEST}
        assert client.post("/signup", data={"name": "Bob"}).status_code == 200
    welcomes = ["welcome Bob True", "welcome Änne True"]
    assert sorted(notes(tmp_path)) == ["shutdown"] * 2 + ["startup"] * 2 + welcomes, "the stop waits for both"


def test_starlette_talks_over_websockets(starlette: Place) -> None:
    async def scenario(process: HybridProcess) -> None:
        async with ws(process, "/ws") as client:
            for text in ("one", "zwölf", "x" * 100_000):
                await client.send(text)
                assert await client.recv() == f"Message text was: {text}"
        with pytest.raises(InvalidStatus) as refused:
            await ws(process, "/refuse")
        assert (refused.value.response.status_code, refused.value.response.body) == (401, b'{"why":"no ticket"}')

    run(scenario(starlette.process))
    eventually(lambda: "disconnected 1000" in notes(starlette.folder), "it has heard of the end")


# --- FastAPI


def test_fastapi_validates(fastapi: Place) -> None:
    process = fastapi.process
    with client_of(process) as client:
        assert client.get("/items/3?q=abc&short=yes").json() == {"number": 3, "q": "abc", "short": True}
        for target in ("/items/three", "/items/3?q=toolong", "/items/3?short=perhaps"):
            assert client.get(target).status_code == 422
        created = client.post("/items", json={"name": "Tür", "price": 2.5, "tax": 0.5, "tags": ["a", "a"]})
        assert (created.status_code, created.json()) == (201, {"name": "Tür", "price_with_tax": 3.0})
        refused = client.post("/items", json={"name": "x", "price": -1})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "price"])
        assert client.post("/items", content=b"{").status_code == 422
        assert "/items/{number}" in client.get("/openapi.json").json()["paths"]
        assert "swagger" in client.get("/docs").text
        assert [client.get("/cookie").json() for _ in range(3)] == [0, 1, 2]
        assert client.get("/broken").status_code == 500
        process.wait_for_log("LookupError: a broken page")


def test_fastapi_provides_dependencies_for_the_duration_of_a_request(fastapi: Place) -> None:
    before = len(notes(fastapi.folder))
    with client_of(fastapi.process) as client:
        assert client.get("/connected").json() == {"found": "connected"}
        assert client.get("/connected?fail=1").status_code == 418
        eventually(lambda: notes(fastapi.folder)[before:] == ["closed"] * 2, "both are closed")
        threads = client.get("/in-a-thread").json()
        assert all("thread" in name.lower() for name in threads.values()), threads
        eventually(lambda: notes(fastapi.folder)[before + 2 :] == ["closed in a thread"], "it is closed")
        assert client.get("/secret").status_code == 422
        assert client.get("/secret", headers={"x-token": "wrong"}).status_code == 401
        assert client.get("/secret", headers={"X-Token": "sesame"}).json() == {"token": "sesame"}
        assert client.post("/notify/anne@example.test").status_code == 202
        eventually(lambda: "mail to anne@example.test" in notes(fastapi.folder), "the task has run")
        assert client.get("/stream").text == "".join(f"line {number}\n" for number in range(100))


def test_fastapi_takes_files(fastapi: Place) -> None:
    pytest.importorskip("python_multipart")
    with client_of(fastapi.process) as client:
        files = [("files", ("a.bin", DATA)), ("files", ("b.txt", b"b"))]
        assert client.post("/files", files=files).json() == [["a.bin", len(DATA)], ["b.txt", 1]]


def test_fastapi_serves_many_at_once(fastapi: Place) -> None:
    """Coroutines and endpoints in threads; each response belongs to its request."""
    many = 60

    async def scenario(process: HybridProcess) -> None:
        host, port = process.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, timeout=DEADLINE) as client:

            async def once(number: int) -> None:
                assert (await client.get(f"/items/{number}")).json()["number"] == number
                assert "endpoint" in (await client.get("/in-a-thread")).json()
                assert (await client.get("/connected")).status_code == 200

            await asyncio.gather(*(once(number) for number in range(many)))

    before = len(notes(fastapi.folder))
    run(scenario(fastapi.process))
    eventually(lambda: len(notes(fastapi.folder)) == before + 2 * many, "all is closed")


def test_fastapi_chats(loop: str, tmp_path: Path) -> None:
    """The chat room is in a worker's memory, so there is only one worker."""

    async def scenario(process: HybridProcess) -> None:
        async with AsyncExitStack() as stack:
            anne, bob, carl = [await stack.enter_async_context(ws(process, f"/chat/{name}")) for name in "abc"]
            for client in (anne, bob, carl):  # each has entered once it is answered
                await client.send("hi")
                while await client.recv() != "You wrote: hi":
                    pass
            await carl.send("all here?")
            for client in (anne, bob, carl):
                while await client.recv() != "c says: all here?":
                    pass
            await bob.close()
            assert await carl.recv() == await anne.recv() == "b left the chat"

    pytest.importorskip("fastapi")
    with running("asgi_fastapi:app", loop, tmp_path, "--workers", "1") as process:
        run(scenario(process))
        assert "ERROR" not in process.stderr


# --- Django


def test_django_views_are_coroutines_and_functions(loop: str, tmp_path: Path) -> None:
    pytest.importorskip("django")
    (tmp_path / "data.bin").write_bytes(DATA)
    with running("asgi_django:application", loop, tmp_path) as process, client_of(process) as client:
        host, port = process.address
        assert client.get("/hello", params={"name": "Änne"}).text == "hello Änne"
        assert client.get("/in_a_thread").text == "False"
        assert client.get("/both").json()["outer"] == "MainThread"
        assert client.get("/both").json()["inner"] != "MainThread"
        uploaded = client.post("/upload", files={"file": ("a", DATA)}, data={"note": "größer"})
        assert uploaded.json() == {"digest": DIGEST, "note": "größer"}
        assert client.get("/stream").text == numbers(1000)
        assert client.get("/download", params={"path": f"{tmp_path}/data.bin"}).content == DATA
        assert client.get("/about?x=1").json() == {"uri": f"http://{host}:{port}/about?x=1", "address": "127.0.0.1"}
        assert client.get("/nowhere").status_code == 404
        assert client.get("/hello", headers={"host": "evil.test"}).status_code == 400
        assert client.get("/broken").status_code == 500
        process.wait_for_log("LookupError: a broken view")


# in one interpreter: Django takes longer to import than most commands take
FURNISH = """
import django
from django.core.management import call_command
django.setup()
call_command("startapp", "polls")
call_command("migrate")
call_command("createsuperuser", interactive=False, username="anne", email="anne@example.test")
"""
# as Django's documentation advises for tests: the default hasher computes for a third of a second per login
QUICK = 'PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `startproject` and `startapp`, with a database and a superuser."""
    pytest.importorskip("django")
    folder = tmp_path_factory.mktemp("django")
    chosen = {"DJANGO_SUPERUSER_PASSWORD": "geheim-für-alle", "DJANGO_SETTINGS_MODULE": "mysite.settings"}

    def python(*command: str, **variables: str) -> None:
        environment = {**os.environ, **variables}
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)

    python("-m", "django", "startproject", "mysite", ".")
    with (folder / "mysite" / "settings.py").open("a") as settings:
        settings.write(f"{QUICK}\n")
    python("-c", FURNISH, **chosen)
    return folder


def test_the_admin_of_a_new_django_project_works(loop: str, tmp_path: Path, project: Path) -> None:
    shutil.copytree(project, tmp_path / "project")
    with (
        running("mysite.asgi:application", loop, tmp_path / "project") as process,
        client_of(process) as client,
    ):
        assert "The install worked successfully" in client.get("/").text
        page = client.get("/admin/")
        assert "Django administration" in page.text
        form = {"username": "anne", "password": "geheim-für-alle", "csrfmiddlewaretoken": token_of(page.text)}
        assert "Please enter the correct username" in client.post(page.url, data={**form, "password": "x"}).text
        assert "Site administration" in client.post(page.url, data=form).text
        page = client.get("/admin/auth/group/add/")
        group = {"name": "Gäste", "csrfmiddlewaretoken": token_of(page.text)}
        assert "was added successfully" in client.post(page.url, data=group).text
        assert "Gäste" in client.get("/admin/auth/group/").text
        assert client.post("/admin/logout/", data={}).status_code == 403, "without a token"


def token_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found is not None
    return found[1]
