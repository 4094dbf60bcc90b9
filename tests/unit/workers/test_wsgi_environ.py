"""The environ that a WSGI application gets, over HTTP/1 and over messages in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import connected
from support.wsgi import WIRES, Server, over_http1, read_answer, serving_wsgi

from hybrid.workers.apps.wsgi import call as wsgi
from hybrid.workers.apps.wsgi.file import FileWrapper

LOOP = "epoll"  # the environ is the same on all


def tell(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with what the environ says."""
    assert type(environ) is dict
    assert all(type(value) is str for key, value in environ.items() if "." not in key)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: value for key, value in environ.items() if type(value) in (str, bool, tuple)}).encode()]


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(wire: str) -> Iterator[Server]:
    with serving_wsgi(tell, LOOP, wire=wire) as server:
        yield server


def told(answer: Any) -> dict[str, Any]:
    assert answer.status == 200
    return json.loads(answer.body)  # type: ignore[no-any-return]


def test_it_has_what_the_specification_asks_for(server: Server) -> None:
    environ = told(server.get("/a%20b/%C3%BC?x=%201"))
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a b/ü".encode().decode("latin-1")
    assert environ["QUERY_STRING"] == "x=%201"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/a%20b/%C3%BC?x=%201"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (server.address[0], str(server.address[1]))
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"].isdigit()
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input_terminated"] is True
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"]) == (True, True, False)
    assert "CONTENT_LENGTH" not in environ
    assert "CONTENT_TYPE" not in environ


def test_fields_are_keys(server: Server) -> None:
    fields = ("X-One: 1", "Content-Type: text/x", "X-Two: a", "x-two: b", "Cookie: a=b", "Cookie: c=d", "X-Latin: \xe9")
    environ = told(server.get("/", *fields, method="PUT", body=b"abc"))
    assert environ["HTTP_X_ONE"] == "1"
    assert environ["HTTP_X_TWO"] == "a,b"
    assert environ["HTTP_COOKIE"] == "a=b; c=d"
    assert environ["HTTP_X_LATIN"] == "\xe9"
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x", "3")
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


@over_http1
def test_nobody_can_set_what_is_the_servers(server: Server) -> None:
    environ = told(server.get("/", "Proxy: evil", "Remote_Addr: 1.2.3.4", "X-Forwarded-For: 1.2.3.4"))
    assert "HTTP_PROXY" not in environ
    assert "HTTP_REMOTE_ADDR" not in environ
    assert environ["REMOTE_ADDR"] == "127.0.0.1"


def test_one_request_cannot_change_the_environ_of_the_next(wire: str) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen = environ.get("mine", "nothing")
        environ["mine"] = environ["SCRIPT_NAME"] = "/changed"
        start_response("200 OK", [])
        return [seen.encode(), environ["SCRIPT_NAME"].encode()]

    with serving_wsgi(application, LOOP, wire=wire) as server, server.connected() as sock:
        assert [server.get_on(sock).body for _ in range(2)] == [b"nothing/changed"] * 2


@over_http1
def test_http_10_is_told(server: Server) -> None:
    with connected(server.address) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert told(read_answer(sock))["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_an_asterisk_is_no_path(server: Server) -> None:
    environ = told(server.get("*", method="OPTIONS"))
    assert (environ["PATH_INFO"], environ["REQUEST_URI"]) == ("", "*")


@over_http1
def test_an_absolute_target_gives_path_and_host(server: Server) -> None:
    environ = told(server.get("http://other:81/path?q"))
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("other:81", "/path", "q")
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "http://other:81/path?q"


def test_the_root_path_is_the_script_name(wire: str) -> None:
    with serving_wsgi(tell, LOOP, wire=wire, root_path="/shop") as server:
        environ = told(server.get("/item"))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", "/item")


def test_a_trusted_proxy_is_believed(wire: str) -> None:
    fields = ("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.test")
    with serving_wsgi(tell, LOOP, wire=wire, forwarded_allow_ips=("127.0.0.1",)) as server:
        environ = told(server.get("/", *fields))
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("1.2.3.4", "https")
    assert environ["HTTP_HOST"] == "test"


def test_the_port_of_a_unix_socket_is_the_one_of_the_scheme_that_a_proxy_reports(wire: str, tmp_path: Path) -> None:
    with serving_wsgi(tell, LOOP, wire=wire, unix=str(tmp_path / "socket"), forwarded_allow_ips=("unix",)) as server:
        ports = [told(server.get("/", f"X-Forwarded-Proto: {scheme}"))["SERVER_PORT"] for scheme in ("https", "http")]
    assert ports == ["443", "80"]


def test_a_unix_socket_has_no_addresses(wire: str, tmp_path: Path) -> None:
    with serving_wsgi(tell, LOOP, wire=wire, unix=str(tmp_path / "socket")) as server:
        environ = told(server.get())
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")


def test_one_thread_is_not_multithreaded(wire: str) -> None:
    with serving_wsgi(tell, LOOP, wire=wire, threads=1) as server:
        assert told(server.get())["wsgi.multithread"] is False


def test_the_objects_are_what_applications_expect(wire: str, capsys: pytest.CaptureFixture[str]) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.errors"].write("a word\n")
        environ["wsgi.errors"].flush()
        start_response("200 OK", [])
        return [b"yes" if environ["wsgi.file_wrapper"] is FileWrapper else b"no"]

    with serving_wsgi(application, LOOP, wire=wire) as server:
        assert server.get().body == b"yes"
    assert capsys.readouterr().err == "a word\n"


def test_names_that_nobody_else_uses_do_not_keep_others_from_being_remembered(server: Server) -> None:
    for number in range(0, wsgi._MOST_KEYS, 64):
        server.get("/", *(f"X-Invented-{number + each}: 1" for each in range(64)))
    environ = told(server.get("/", "X-Late: 1", "Content-Type: text/x", method="PUT", body=b"abc"))
    assert (environ["HTTP_X_LATE"], environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("1", "text/x", "3")
    assert wsgi._keys[b"x-late"] == "HTTP_X_LATE"
    assert len(wsgi._keys) <= wsgi._MOST_KEYS
