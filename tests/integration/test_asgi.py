"""An ASGI application with assertions, on every loop: scopes, bodies, extensions, and invalid messages."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificates
from support.clients import ask, connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.referee import BLOCK, get, get_on, judged, seen, wait_seen
from support.wsgi import read_answer, send_request


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def usual(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests with default options that check neither the log nor the pages' counters."""
    with judged(loop, tmp_path_factory.mktemp("usual"), executed=True) as process:
        yield process


def shown(process: HybridProcess, target: str, *fields: str) -> dict[str, Any]:
    return dict(json.loads(get(process, target, *fields).body))


# --- scopes


def test_the_scope_describes_the_request(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        fields = ("X-Twice: 1", "x-tWICE: \xe4 2 ", "Accept:")
        scope = json.loads(get_on(sock, "/sh%6fw?a=%20b?&c", *fields).body)
        assert scope["client"] == list(sock.getsockname())
    assert scope["server"] == list(usual.address)
    assert (scope["method"], scope["scheme"], scope["http_version"]) == ("GET", "http", "1.1")
    assert (scope["path"], scope["raw_path"]) == ("/show", "/sh%6fw")
    assert (scope["query_string"], scope["root_path"]) == ("a=%20b?&c", "")
    assert scope["headers"] == [["host", "test"], ["x-twice", "1"], ["x-twice", "\xe4 2"], ["accept", ""]]
    answer = ask(usual.address, b"GET http://other.test/show HTTP/1.0\r\n\r\n")
    scope = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (scope["http_version"], scope["path"], scope["raw_path"]) == ("1.0", "/show", "/show")


def test_the_root_path_precedes_the_path(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path, "--root-path", "/mounted") as process:
        scope = shown(process, "/show")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/mounted", "/mounted/show", "/mounted/show")


def test_a_unix_socket_has_its_path_as_server(loop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with judged(loop, tmp_path, "--bind", f"unix:{path}"):
        answer = ask(path, b"GET /show HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["server"] == [path, None]


def test_the_tls_extension_is_filled(loop: str, tmp_path: Path) -> None:
    cert = certificates()
    arguments = ("--certfile", str(cert.certificate), "--keyfile", str(cert.key))
    digest = hashlib.sha256(BLOCK * 30).hexdigest().encode()
    (tmp_path / "file").write_bytes(BLOCK * 20)
    with (
        judged(loop, tmp_path, *arguments, "--ca-certs", str(cert.ca), "--client-certificate", "required") as process,
        connected(process.address) as plain,
        cert.client_context(cert.client).wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        scope = json.loads(get_on(sock, "/show").body)
        assert scope["scheme"] == "https"
        assert "Alice" in scope["tls"]["client_cert_name"]
        assert get_on(sock, "/upload", method="POST", body=BLOCK * 30).body == digest
        assert get_on(sock, f"/path?{tmp_path}/file").body == BLOCK * 20
        assert get_on(sock, "/download?30").body == BLOCK * 30
        assert get_on(sock, "/nap?0.01").body == b"rested"


def test_requests_share_only_the_state_of_the_lifespan(loop: str, tmp_path: Path) -> None:
    """The application puts something into each scope, and a value into each context."""
    with judged(loop, tmp_path) as process, connected(process.address) as sock, connected(process.address) as other:
        for target in ("/hello", "/show", "/nap?0", "/nap?0.001", "/hello") * 2:
            send_request(other, "/nap?0.01")
            assert get_on(sock, target).status == 200
            assert read_answer(other).status == 200
        assert [get_on(sock, "/state").body for _ in range(3)] == [b"1", b"2", b"3"]
        assert get_on(other, "/state").body == b"4"
        before = get_on(sock, "/count-tasks").body
        assert {get_on(sock, "/count-tasks").body for _ in range(20)} == {before}, "no tasks are left behind"


def test_requests_of_a_pipeline_are_answered_in_order(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        targets = ("/nap?0.05", "/hello", "/nap?0", "/tasks", "/missing", "/hello")
        sock.sendall(b"".join(f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n".encode() for target in targets))
        answers = [read_answer_of_many(sock) for _ in targets]
    assert [answer[:6] for answer in answers] == [b"rested", b"hello ", b"rested", b'{"canc', b"no suc", b"hello "]


def read_answer_of_many(sock: Any) -> bytes:
    """Read one response that has a length, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    body = b""
    while len(body) < int(found[1]):
        body += sock.recv(int(found[1]) - len(body))
    return body


# --- bodies


def test_bodies_of_every_kind_go_both_ways(usual: HybridProcess) -> None:
    digest = hashlib.sha256(BLOCK * 10).hexdigest().encode()
    with connected(usual.address) as sock:
        assert get_on(sock, "/kinds").body == b"one two three four"
        assert get_on(sock, "/upload", method="POST", body=BLOCK * 10).body == digest
        assert get_on(sock, "/upload", method="POST").body == hashlib.sha256(b"").hexdigest().encode()
        assert get(usual, "/echo", method="PUT", body=BLOCK * 10).body == BLOCK * 10
        assert get_on(sock, "/echo").body == b""
        assert get(usual, "/hello", method="POST", body=BLOCK * 10).status == 200, "the body is not read"
        sock.sendall(b"POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        sock.sendall(b"2\r\nde\r\n0\r\n\r\n")
        assert read_answer(sock).body == hashlib.sha256(b"abcde").hexdigest().encode()
        sock.sendall(b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n")
        assert read_head(sock).startswith(b"HTTP/1.1 100 Continue\r\n")
        sock.sendall(b"x")
        assert read_answer(sock).body == hashlib.sha256(b"x").hexdigest().encode()
        answer = get_on(sock, "/generated-headers")
        assert [pair for pair in answer.headers if pair[1] == "1"] == [("first", "1"), ("second", "1"), ("first", "1")]
        assert get_on(sock, "/download?30").body == BLOCK * 30
        assert get_on(sock, "/missing").status == 404


def test_pieces_are_echoed_while_the_request_still_arrives(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\n")
        for piece, data in enumerate((b"one-1-----", b"two-2-----", b"three-----")):
            sock.sendall(data)
            received = b""
            while data not in received:
                received += sock.recv(1000)
            assert received.startswith(b"HTTP/1.1 200 OK") == (piece == 0)


def test_responses_without_a_body_have_none(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        for target in ("/hello", "/kinds", "/download?3", "/trailers", "/status?200"):
            answer = get_on(sock, target, "te: trailers", method="HEAD")
            assert (answer.status, answer.body) == (200, b"")
        for status in (204, 304):
            assert get_on(sock, f"/status?{status}").status == status
        assert get_on(sock, "/status?404").body == b"a body"
        assert get_on(sock, "/status?299").reason == ""
        assert get_on(sock, "/length?5:abc,de").header("content-length") == "5"
        assert ask(usual.address, b"GET /kinds HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\none two three four")


def test_a_body_that_does_not_match_its_length_does_not_look_complete(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path) as process:
        for target in ("/length?3:abcd", "/length?3:ab", "/length?x:ab"):
            assert get(process, target).status == 500
        for target in ("/length?5:ab,", "/length?3:ab,cd"):
            with connected(process.address) as sock:
                send_request(sock, target)
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                    read_answer(sock)
        process.wait_for_log("longer than its Content-Length by 1 byte")
        process.wait_for_log("shorter than its Content-Length by 3 bytes")


# --- extensions


def read_head(sock: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


def test_trailers_are_sent_to_clients_that_accept_them(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path) as process:

        def answer(target: str, fields: bytes, version: bytes = b"1.1") -> bytes:
            request = b"GET %b HTTP/%b\r\nhost: a\r\nconnection: close\r\n%b\r\n" % (target.encode(), version, fields)
            with connected(process.address) as sock:
                sock.sendall(request)
                return read_all(sock)

        for target, body in (
            ("/trailers", b"6\r\na body\r\n"),
            ("/trailers?pieces", b"6\r\na body\r\na\r\n in pieces\r\n"),
        ):
            expected = b"\r\n\r\n" + body + b"0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"
            assert answer(target, b"te: gzip, Trailers\r\n").endswith(expected)
            assert b"x-sum: 1" not in answer(target, b"")
            assert b"x-sum: 1" not in answer(target, b"te: trailers\r\n", b"1.0")
        assert not answer("/trailers?never", b"te: trailers\r\n").endswith(b"0\r\n\r\n"), "it is not whole"
        process.wait_for_log("an incomplete response to GET /trailers")


def test_early_hints_precede_the_response(usual: HybridProcess) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\nlink: </b>; rel=next\r\n\r\n"
    with connected(usual.address) as sock:
        send_request(sock, "/hints")
        assert [read_head(sock), read_head(sock)] == [hint, hint]
        assert read_answer(sock).body == b"styled"
    answer = ask(usual.address, b"GET /hints HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), "HTTP/1.0 does not know them"


def test_files_are_sent_by_path(usual: HybridProcess, tmp_path: Path) -> None:
    path = tmp_path / "a file.bin"
    path.write_bytes(BLOCK * 40 + b"end")
    (tmp_path / "empty").write_bytes(b"")
    name = str(path).replace(" ", "%20")
    with connected(usual.address) as sock:
        (tmp_path / "file").symlink_to(path)
        answer = get_on(sock, f"/path?{tmp_path}/file")
        assert answer.body == BLOCK * 40 + b"end"
        assert answer.header("content-length") == str(len(answer.body))
        assert get_on(sock, f"/path?{tmp_path}/file:1000").body == BLOCK[:1000]
        assert get_on(sock, f"/path?{tmp_path}/file", method="HEAD").header("content-length") == str(40 * 65536 + 3)
        assert get_on(sock, f"/path?{tmp_path}/empty").body == b""
        assert get_on(sock, f"/path?{tmp_path}/empty:1").status == 500
        assert get(usual, f"/path?{tmp_path}").status == 500
        assert get(usual, f"/path?{name}").status == 500, "there is no such file"
        assert get(usual, "/hello").status == 200


# --- failing


def test_errors_are_logged_and_leave_the_connection_in_a_known_state(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path) as process:
        for name in ("LookupError", "SystemExit", "KeyboardInterrupt", "Group", "Cancelled"):
            with connected(process.address) as sock:
                for moment in ("before", "waited", "start"):
                    mark = len(process.lines)
                    assert get_on(sock, f"/fail?{moment}-{name}").status == 500
                    process.wait_for_log(f"the application failed at GET /fail.{moment}-{name}", since=mark)
                    process.wait_for_log(r"^\s+\+? *(Exception Group )?Traceback", since=mark)
                assert get_on(sock, f"/fail?end-{name}").body == b"part", "the answer was whole already"
                assert get_on(sock, "/hello").status == 200
                send_request(sock, f"/fail?body-{name}")
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                    read_answer(sock)
        process.wait_for_log("LookupError: a broken page")
        with connected(process.address) as sock:
            assert get_on(sock, "/cancelled").status == 500
            assert get_on(sock, "/quit-").status == 500
            assert get_on(sock, "/tasks").status == 200
        assert len(process.worker_pids()) == 1
        assert process.stderr.count("ready on") == 1, "it is the first worker still"


WRONG = {
    "body-first": "ResponseError",
    "two-starts": "ResponseError",
    "unknown": "ResponseError",
    "websocket": "ResponseError",
    "status": "HeadError",
    "text-status": "TypeError",
    "no-status": "KeyError",
    "text-body": "TypeError",
    "splitting": "HeadError",
    "text-header": "TypeError",
    "directory": "ResponseError",
}


def test_invalid_messages_are_refused_with_an_error(loop: str, tmp_path: Path) -> None:
    with judged(loop, tmp_path) as process:
        with connected(process.address) as sock:
            for name, error in WRONG.items():
                assert get_on(sock, f"/wrong?{name}").status == 500, name
                wait_seen(tmp_path, f"/wrong {name} {error}")
            assert get_on(sock, "/wrong?behind-the-end").body == b"y"
            for name in ("nothing", "no-body"):
                assert get_on(sock, f"/wrong?{name}").status == 500
        for name in ("trailers", "path-behind-body", "half"):
            with connected(process.address) as sock:
                send_request(sock, f"/wrong?{name}")
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                    read_answer(sock)
        process.wait_for_log("the application returned with no response to GET /wrong.nothing")
        process.wait_for_log("the application returned with an incomplete response to GET /wrong.half")
        process.wait_for_log("ignoring http.response.body after the end of the response")
    assert len([line for line in seen(tmp_path) if "behind-the-end" in line]) == 0, "ignored"


def test_asyncio_features_work_within_a_request(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        for _ in range(3):
            found = json.loads(get_on(sock, "/tasks").body)
            assert found.pop("name") == "GET /tasks"
            assert all(found.values()), found
            assert get_on(sock, "/hello").status == 200
