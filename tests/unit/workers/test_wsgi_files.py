"""`wsgi.file_wrapper`: real files go out by sendfile(2), everything else is read; the client cannot tell."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from support.clients import connected
from support.process import DEADLINE
from support.wsgi import PLACES, WIRES, Bytes, Server, over_http1, send_request, serving_wsgi

from hybrid.workers.apps.wsgi.file import FileWrapper, extent_of

Serve = Callable[..., AbstractContextManager[Server]]
DATA = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0]}-{'threads' if place[1] else 'greenlets'}")
def serve(request: pytest.FixtureRequest, wire: str) -> Serve:
    loop, threads = request.param

    @contextmanager
    def start(application: Any, **settings: Any) -> Iterator[Server]:
        with serving_wsgi(application, loop, threads, wire=wire, **settings) as server:
            yield server

    return start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def sending(open_file: Callable[[], Any], *fields: tuple[str, str]) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", list(fields))
        return environ["wsgi.file_wrapper"](open_file(), 8192)

    return application


def test_a_file_arrives_whole_and_is_closed(serve: Serve, path: Path) -> None:
    opened: list[Any] = []

    def open_file() -> Any:
        opened.append(path.open("rb"))
        return opened[-1]

    with serve(sending(open_file)) as server, server.connected() as sock:
        for _ in range(2):
            answer = server.get_on(sock)
            assert answer.body == DATA
            assert answer.header("content-length") == str(len(DATA))
    assert [file.closed for file in opened] == [True, True]


def test_sending_starts_where_the_file_stands(serve: Serve, path: Path) -> None:
    """Also when the file object has read ahead of that."""

    def open_file() -> Any:
        file = path.open("rb")
        file.read(1000)
        return file

    with serve(sending(open_file)) as server:
        assert server.get().body == DATA[1000:]


def test_a_file_without_a_buffer_is_sent_too(serve: Serve, path: Path) -> None:
    def open_file() -> Any:
        file = path.open("rb", buffering=0)
        file.seek(5)
        return file

    with serve(sending(open_file)) as server:
        assert server.get().body == DATA[5:]


def test_what_is_no_file_is_read(serve: Serve) -> None:
    opened = [Bytes(DATA)]
    with serve(sending(lambda: opened[0])) as server:
        assert server.get().body == DATA
    assert opened[0].closed


def test_what_unpacks_a_file_is_read(serve: Serve, tmp_path: Path) -> None:
    """It has the descriptor of the packed file, whose bytes nobody wants."""
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(b"unpacked" * 1000))
    with serve(sending(lambda: gzip.open(packed))) as server:
        assert server.get().body == b"unpacked" * 1000


def test_a_pipe_is_read(serve: Serve) -> None:
    def open_file() -> Any:
        read_end, write_end = os.pipe()
        os.write(write_end, b"through a pipe")
        os.close(write_end)
        return os.fdopen(read_end, "rb")

    with serve(sending(open_file)) as server:
        assert server.get().body == b"through a pipe"


def test_head_sends_no_file(serve: Serve, path: Path) -> None:
    with serve(sending(lambda: path.open("rb"))) as server, server.connected() as sock:
        answer = server.get_on(sock, method="HEAD")
        assert (answer.header("content-length"), answer.body) == (str(len(DATA)), b"")
        assert len(server.get_on(sock).body) == len(DATA)


def test_an_empty_file_is_an_empty_answer(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with serve(sending(lambda: (tmp_path / "empty").open("rb"))) as server, server.connected() as sock:
        for _ in range(2):
            assert server.get_on(sock).header("content-length") == "0"


def test_a_shorter_content_length_ends_the_file_early(serve: Serve, path: Path) -> None:
    """As for a range of it."""
    shorter = sending(lambda: path.open("rb"), ("Content-Length", "1000"))
    with serve(shorter) as server, server.connected() as sock:
        for _ in range(2):
            assert server.get_on(sock).body == DATA[:1000]


def test_a_longer_content_length_gives_500(serve: Serve, path: Path) -> None:
    with serve(sending(lambda: path.open("rb"), ("Content-Length", str(len(DATA) + 1)))) as server:
        assert server.get().status == 500
        assert len([line for line in server.log if line.startswith("ERROR")]) == 1


def test_a_client_that_goes_does_not_leave_the_file_open(serve: Serve, path: Path) -> None:
    opened: list[Any] = []

    class Wrapped(FileWrapper):
        pass

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        opened.append(path.open("rb"))
        start_response("200 OK", [])
        return Wrapped(opened[-1])

    with serve(application) as server, server.connected() as sock:
        server.send_request(sock, "/")
        server.take_little(sock)
    assert opened[0].closed


@over_http1
def test_a_large_file_waits_for_its_client(serve: Serve, tmp_path: Path) -> None:
    """Others are served meanwhile."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(50_000_000)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](large.open("rb")) if environ["PATH_INFO"] == "/large" else [b"small"]

    with serve(application) as server, connected(server.address) as slow:
        send_request(slow, "/large")
        slow.recv(1000)
        assert [server.get().body for _ in range(3)] == [b"small"] * 3
        received = 1000
        slow.settimeout(DEADLINE)
        while received < 50_000_000:
            received += len(slow.recv(1 << 20))


@over_http1
def test_http_10_gets_the_file_as_well(serve: Serve, path: Path) -> None:
    with serve(sending(lambda: path.open("rb"))) as server:
        assert server.ask(b"GET / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2] == DATA


def test_a_file_through_wsgirefs_validator(serve: Serve, path: Path) -> None:
    with serve(validator(sending(lambda: path.open("rb"), ("Content-Type", "text/plain")))) as server:
        assert server.get().body == DATA
        assert server.log == []


# --- which files the kernel may send


def test_a_named_temporary_file_is_a_file() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"abc")
        file.seek(1)
        assert extent_of(file) == (file.fileno(), 1, 2)


def test_a_file_that_says_it_is_empty_is_read() -> None:
    """As those of /proc do, whatever they hold (proc(5))."""
    with Path("/proc/self/status").open("rb") as file:
        assert extent_of(file) is None


def test_what_a_file_of_proc_holds_is_sent(serve: Serve) -> None:
    with serve(sending(lambda: Path("/proc/version").open("rb"))) as server:
        assert server.get().body == Path("/proc/version").read_bytes()


def test_a_position_behind_the_end_leaves_nothing(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(len(DATA) + 10)
        extent = extent_of(file)
    assert extent is not None
    assert extent.size == 0


def test_what_is_not_the_files_own_bytes_is_not_sent(path: Path) -> None:
    class Shouting(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size).upper()

    closed = path.open("rb")
    closed.close()
    with (
        path.open() as text,
        Shouting(path) as shouting,
        io.BufferedReader(Shouting(path)) as over,
        path.open("ab") as to,
    ):
        for file in (text, shouting, over, to, closed, io.BytesIO(), object()):
            assert extent_of(file) is None
