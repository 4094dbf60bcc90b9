"""What a WSGI application may do with its answer, and what becomes of it when it does something else."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.client import HTTPException
from typing import Any
from wsgiref.validate import validator

import pytest
from support.clients import connected, read_all
from support.process import DEADLINE
from support.service import eventually
from support.wsgi import PLACES, WIRES, Body, Server, over_http1, serving_wsgi

import hybrid
from hybrid.workers.http.settings import Limits

Serve = Callable[..., AbstractContextManager[Server]]
PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0]}-{'threads' if place[1] else 'greenlets'}")
def serve(request: pytest.FixtureRequest, wire: str) -> Serve:
    loop, threads = request.param

    @contextmanager
    def start(application: Any, **settings: Any) -> Iterator[Server]:
        with serving_wsgi(application, loop, settings.pop("threads", threads), wire=wire, **settings) as server:
            yield server

    return start


class Pieces:
    """An iterable without a length, which can be iterated again and again."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(Body(*self._pieces))


def answering(result: Any, status: str = "200 OK", fields: list[tuple[str, str]] | None = None) -> Callable[..., Any]:
    """Return an application that answers with `result`."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, PLAIN if fields is None else fields)
        return result

    return application


def failures(server: Server) -> list[str]:
    return [line for line in server.log if line.startswith("ERROR")]


# --- the answer


@pytest.mark.parametrize("result", [[b"abc"], (b"abc",), [b"a", b"", b"bc"], Pieces(b"a", b"bc"), Pieces(b"", b"abc")])
def test_any_iterable_is_an_answer(serve: Serve, result: Any) -> None:
    with serve(answering(result)) as server:
        answer = server.get()
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"abc")
    assert answer.header("content-type") == "text/plain"


def test_one_piece_of_known_number_gets_a_content_length(serve: Serve) -> None:
    with serve(answering((b"abc",))) as server:
        assert server.get().header("content-length") == "3"


@pytest.mark.parametrize("result", [[], Pieces(), [b""], Pieces(b"", b"")])
def test_an_empty_answer_has_length_nought(serve: Serve, result: Any) -> None:
    with serve(answering(result)) as server:
        answer = server.get()
    assert (answer.header("content-length"), answer.body) == ("0", b"")


@over_http1
def test_pieces_go_out_as_they_come(serve: Serve) -> None:
    went_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"first"
        environ["wsgi.input"].read()  # waits for the client, which waits for the first piece
        went_on.set()
        yield b"second"

    with serve(application) as server, connected(server.address) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        received = b""
        while not received.endswith(b"first\r\n"):
            received += sock.recv(1000)
        assert not went_on.is_set()
        sock.sendall(b"go")
        while not received.endswith(b"0\r\n\r\n"):
            received += sock.recv(1000)
    assert received.endswith(b"first\r\n6\r\nsecond\r\n0\r\n\r\n")


@over_http1
def test_http_10_gets_no_chunks(serve: Serve) -> None:
    with serve(answering(Pieces(b"a", b"bc"))) as server:
        head, _, body = server.ask(b"GET / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert body == b"abc"
    assert b"transfer-encoding" not in head


def test_a_generator_may_start_the_response_with_its_first_piece(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", PLAIN)
        yield b"late"

    with serve(application) as server:
        answer = server.get()
    assert (answer.status, answer.body) == (201, b"late")


def test_write_sends_before_the_iterable(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"")
        write(b"a")
        write(b"b")
        return [b"c"]

    with serve(application) as server:
        assert server.get().body == b"abc"


def test_write_alone_is_an_answer(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [*PLAIN, ("Content-Length", "5")])(b"alone")
        return []

    with serve(application) as server:
        answer = server.get()
    assert (answer.header("content-length"), answer.body) == ("5", b"alone")


def test_an_answer_to_head_has_the_head_alone(serve: Serve) -> None:
    with serve(answering([b"abc"])) as server, server.connected() as sock:
        answer = server.get_on(sock, method="HEAD")
        assert (answer.header("content-length"), answer.body) == ("3", b"")
        assert server.get_on(sock).body == b"abc", "and the connection goes on"


def test_an_endless_answer_to_head_ends_with_the_head(serve: Serve) -> None:
    closed = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        try:
            while True:
                yield b"more"
        finally:
            closed.append(True)

    with serve(application) as server, server.connected() as sock:
        assert server.get_on(sock, method="HEAD").status == 200
        assert server.get_on(sock, method="HEAD").status == 200
    assert closed == [True, True]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_get_none(serve: Serve, status: str) -> None:
    with serve(answering(Pieces(b"dropped"), status)) as server, server.connected() as sock:
        assert server.get_on(sock).body == b""
        assert server.get_on(sock).status == int(status[:3])


@pytest.mark.parametrize(("status", "reason"), [("200", ""), ("299 Any words", "Any words"), ("418 Ä", "Ä")])
def test_any_reason_is_sent_as_it_is(serve: Serve, status: str, reason: str) -> None:
    with serve(answering([b"x"], status)) as server:
        answer = server.get()
    assert (answer.status, answer.reason) == (int(status[:3]), reason)


def test_a_subclass_of_bytes_is_bytes(serve: Serve) -> None:
    class Text(bytes):
        pass

    with serve(answering([Text(b"abc")])) as server:
        assert server.get().body == b"abc"


@over_http1
def test_early_hints_go_before_the_answer(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        write = start_response("200 OK", PLAIN)
        write(b"x")
        environ["wsgi.early_hints"]([("Link", "</too-late.css>; rel=preload")])
        return []

    with serve(application) as server:
        received = server.ask(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        old = server.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"too-late" not in received
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")


# --- exc_info


def test_an_error_before_the_head_is_out_may_replace_it(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            raise LookupError("no page")
        except LookupError:
            start_response("404 Not Found", [("X-Error", "yes")], sys.exc_info())
        return [b"gone"]

    with serve(application) as server:
        answer = server.get()
    assert (answer.status, answer.header("x-error"), answer.header("content-type")) == (404, "yes", None)


@pytest.mark.parametrize("sent", [b"out", b""])
def test_an_error_after_the_head_is_out_is_raised_again(serve: Serve, sent: bytes) -> None:
    raised = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(sent)
        try:
            raise LookupError("too late")
        except LookupError:
            try:
                start_response("500 Oops", [], sys.exc_info())
            except LookupError as error:
                raised.append(str(error))
                raise
        return []

    with serve(application) as server:
        with pytest.raises(HTTPException), server.connected() as sock:
            server.get_on(sock)
        assert raised == ["too late"]
        assert len(failures(server)) == 1


def test_a_second_start_response_without_exc_info_is_an_error(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        start_response("200 OK", PLAIN)
        return [b"x"]

    with serve(application) as server:
        assert server.get().status == 500
        assert len(failures(server)) == 1


# --- errors


def raising(error: BaseException) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        raise error

    return application


def not_started(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return [b"x"]


BEFORE_THE_HEAD = {
    "an exception": raising(LookupError("broken")),
    "sys.exit": raising(SystemExit(3)),
    "Ctrl-C": raising(KeyboardInterrupt()),
    "no start_response": not_started,
    "None": answering(None),
    "text": answering("text"),
    "bytes": answering(b"bytes"),
    "a piece of text": answering(["text"]),
    "a piece that is a number": answering(Pieces(7)),
    "an error before the first piece": answering(Pieces(LookupError("broken"))),
    "a status that is no text": answering([b""], 200),  # type: ignore[arg-type]
    "a status without a number": answering([b""], "OK"),
    "a status of four digits": answering([b""], "2000 OK"),
    "an informational status": answering([b""], "100 Continue"),
    "a status that splits the answer": answering([b""], "200 OK\r\nx: y"),
    "a field that splits the answer": answering([b""], fields=[("x", "a\r\nset-cookie: b")]),
    "a field that is no latin-1": answering([b""], fields=[("x", "€")]),
    "a field that is no text": answering([b""], fields=[("x", 7)]),  # type: ignore[list-item]
    "a field's name with a space": answering([b""], fields=[("a b", "c")]),
    "a length that is no number": answering([b""], fields=[("Content-Length", "-1")]),
    "fields that are no pairs": answering([b""], fields=[("x",)]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("what", BEFORE_THE_HEAD)
def test_before_the_head_an_error_is_answered_with_500(serve: Serve, what: str) -> None:
    """The log has one record, and the next request on the connection works."""
    failing = BEFORE_THE_HEAD[what]

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/fails":
            return failing(environ, start_response)
        return answering([b"well"])(environ, start_response)

    with serve(application) as server, server.connected() as sock:
        answer = server.get_on(sock, "/fails")
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert server.get_on(sock).body == b"well"
        assert failures(server) == ["ERROR the application failed at GET /fails"]


AFTER_THE_HEAD = {
    "an exception": answering(Pieces(b"part", LookupError("broken"))),
    "sys.exit": answering(Pieces(b"part", SystemExit(3))),
    "a piece of text": answering(Pieces(b"part", "text")),
    "too short": answering(Pieces(b"part"), fields=[("Content-Length", "5")]),
    "too long": answering(Pieces(b"part", b"and more"), fields=[("Content-Length", "5")]),
}


@pytest.mark.parametrize("what", AFTER_THE_HEAD)
def test_after_the_head_an_error_cuts_the_connection(serve: Serve, what: str) -> None:
    """Nobody can take the answer for whole; the log has one record."""
    with serve(AFTER_THE_HEAD[what]) as server:
        with server.connected() as sock, pytest.raises((HTTPException, ConnectionResetError)):
            server.get_on(sock)
        assert len(failures(server)) == 1, server.log
        assert "/" in failures(server)[0]


def test_an_application_that_ignores_the_error_of_its_length_gets_500_all_the_same(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "1")])
        for _ in range(100):
            with suppress(Exception):
                write(b"x" * 10_000)
        return []

    with serve(application) as server:
        assert server.get().status == 500


def test_an_error_is_logged_with_its_traceback(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    error = LookupError("broken")
    with serve(raising(error)) as server:
        collector = Collector(logging.ERROR)
        logging.getLogger("hybrid").addHandler(collector)
        try:
            server.get("/where?it=was")
        finally:
            logging.getLogger("hybrid").removeHandler(collector)
    (record,) = records
    assert record.getMessage() == "the application failed at GET /where?it=was"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


# --- close


def test_an_iterable_is_closed_once_when_all_is_well(serve: Serve) -> None:
    body = Body(b"a", b"b")
    with serve(answering(body)) as server:
        assert server.get().body == b"ab"
        assert body.was_closed.wait(DEADLINE)
    assert body.closed == 1


@pytest.mark.parametrize("pieces", [(LookupError(),), (b"a", LookupError()), (b"a", "text")])
def test_an_iterable_is_closed_once_after_an_error(serve: Serve, pieces: Any) -> None:
    body = Body(*pieces)
    with serve(answering(body)) as server, server.connected() as sock:
        server.send_request(sock, "/")
        assert body.was_closed.wait(DEADLINE)
    assert body.closed == 1


def test_an_iterable_is_closed_once_for_head(serve: Serve) -> None:
    body = Body(b"a", b"b")
    with serve(answering(body)) as server:
        server.get(method="HEAD")
        assert body.was_closed.wait(DEADLINE)
    assert body.closed == 1


def test_an_iterable_is_closed_once_when_the_client_goes(serve: Serve) -> None:
    """And the log has nothing to say of it."""
    body = Body(*[b"x" * 100_000] * 1000)
    with serve(answering(body)) as server:
        with server.connected() as sock:
            server.send_request(sock, "/")
            server.take_little(sock)
        assert body.was_closed.wait(DEADLINE)
        assert failures(server) == []
    assert body.closed == 1


def test_an_iterable_is_closed_once_when_the_grace_period_ends(serve: Serve) -> None:
    body = Body(*[b"x" * 100_000] * 1000)
    with serve(answering(body)) as server, server.connected() as sock:
        server.send_request(sock, "/")
        server.take_little(sock)
        server.do(server.adapter.end)
        assert body.was_closed.wait(DEADLINE)
        assert failures(server) == []
    assert body.closed == 1


def test_an_error_of_close_is_logged_and_the_answer_stands(serve: Serve) -> None:
    class Failing(Body):
        def close(self) -> None:
            super().close()
            raise LookupError("in close")

    body = Failing(b"whole")
    with serve(answering(body)) as server, server.connected() as sock:
        assert server.get_on(sock).body == b"whole"
        eventually(lambda: failures(server), "a record")  # in a thread, the answer may come first
    assert len(failures(server)) == 1


# --- waiting


def test_an_application_waits_for_a_client_that_does_not_read(serve: Serve) -> None:
    """It is never far ahead of what the kernel has taken."""
    given = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for number in range(2000):
            given.append(number)
            yield b"x" * 50_000

    with serve(application) as server, server.connected() as sock:
        server.send_request(sock, "/")
        server.take_little(sock)
        before = -1
        pause = threading.Event()
        while before != len(given):
            before = len(given)
            pause.wait(0.1)
        assert len(given) < 1000


def test_a_client_that_takes_nothing_is_cut(serve: Serve) -> None:
    body = Body(*[b"x" * 100_000] * 1000)
    with serve(answering(body), limits=Limits(send_timeout=0.2)) as server, server.connected() as sock:
        server.send_request(sock, "/")
        assert body.was_closed.wait(DEADLINE)
    assert body.closed == 1


def test_context_variables_are_fresh_for_each_request(serve: Serve) -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        before = seen.get()
        seen.set("something")
        start_response("200 OK", PLAIN)
        return [before.encode()]

    with serve(application) as server, server.connected() as sock:
        assert [server.get_on(sock).body for _ in range(8)] == [b"nothing"] * 8


def test_requests_of_several_clients_run_side_by_side(serve: Serve) -> None:
    """Each waits for a body that comes only when all have begun."""
    begun = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        begun.append(1)
        body = environ["wsgi.input"].read()
        start_response("200 OK", PLAIN)
        return [body]

    with serve(application) as server, server.connected() as first, server.connected() as second:
        for sock in (first, second):
            server.send_request(sock, "/", method="POST", length=1)
        while len(begun) < 2:
            threading.Event().wait(0.001)
        for sock in (second, first):
            server.send(sock, b"b")
            assert server.read_answer(sock).body == b"b"


@over_http1
def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [environ["PATH_INFO"].encode(), b";"]

    request = b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(12))
    with serve(application) as server:
        received = server.ask(request + b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    order = [line for line in received.split(b"\r\n") if line.startswith(b"/")]
    assert order == [b"/%d" % number for number in range(12)] + [b"/last"]


def test_no_event_loop_seems_to_run(serve: Serve) -> None:
    """Before and after a wait: else Django's models and `asyncio.run` would refuse to work."""

    async def answer() -> bytes:
        await asyncio.sleep(0)
        return b"seven"

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for _ in range(2):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            environ["wsgi.input"].read()
        start_response("200 OK", PLAIN)
        return [asyncio.run(answer()), b";"]

    with serve(application) as server, server.connected() as first, server.connected() as second:
        for sock in (first, second):
            server.send_request(sock, "/", method="POST", length=1)
        for sock in (second, first):
            server.send(sock, b"b")
            assert server.read_answer(sock).body == b"seven;"
        assert server.get(method="POST", body=b"x").status == 200
        assert failures(server) == []


def test_a_greenlet_of_a_request_sees_no_event_loop_either() -> None:
    def work() -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        hybrid.sleep(0.001)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return "done"

    async def running() -> bool:
        return asyncio.get_running_loop().is_running()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert hybrid.await_(running())
        done = hybrid.spawn(work).get()
        with hybrid.connect((environ["SERVER_NAME"], int(environ["SERVER_PORT"]))) as sock:
            sock.sendall(b"BAD\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 400")
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
        start_response("200 OK", PLAIN)
        return [done.encode()]

    with serving_wsgi(application, "epoll", 0) as server:
        assert server.get().body == b"done"
        assert server.get().body == b"done"


# --- hybrid's own functions


def test_hybrid_sleep_lets_others_run_or_says_why_not() -> None:
    """In a greenlet it parks; in a thread of the pool there is no loop to go back to."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        hybrid.sleep(0.001)
        start_response("200 OK", PLAIN)
        return [b"slept"]

    loop = PLACES[0][0]
    with serving_wsgi(application, loop, 0) as server:
        assert server.get().body == b"slept"


def test_hybrid_functions_in_a_thread_say_what_to_use() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            hybrid.connect(("127.0.0.1", 1))
        except RuntimeError as error:
            return [str(error).encode()]
        return [b"no error"]

    with serving_wsgi(application, PLACES[0][0], 1) as server:
        assert b"no hybrid loop runs in this thread" in server.get().body


# --- validity


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_wsgiref_finds_nothing_wrong(serve: Serve, method: str) -> None:
    @validator
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size)
        environ["wsgi.errors"].write("")
        environ["wsgi.errors"].flush()
        write = start_response("200 OK", PLAIN)
        if environ["PATH_INFO"] == "/write":
            write(body or b"nothing")
        return iter([b"a", body])

    with serve(application) as server:
        for target in ("/", "/write", "/a%20b?c=d"):
            assert server.get(target, method=method, body=b"hello" if method == "POST" else b"").status == 200
        assert server.log == []


@over_http1
def test_the_answer_is_whole_for_a_client_that_has_closed_its_half(serve: Serve) -> None:
    with serve(answering([b"abc"])) as server, connected(server.address) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        sock.shutdown(1)
        assert read_all(sock).endswith(b"abc")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_pieces_may_be_bytes_like(serve: Serve, kind: Callable[[bytes], Any]) -> None:
    with serve(answering([kind(b"hello "), kind(b"world")])) as server:
        assert server.get().body == b"hello world"


def test_a_piece_that_the_application_changes_afterwards_is_sent_as_it_was(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
        start_response("200 OK", PLAIN)
        piece = bytearray(b"first.")
        yield piece
        piece[:] = b"second"
        yield piece

    with serve(application) as server:
        assert server.get().body == b"first.second"


def test_write_takes_bytes_like_data(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", PLAIN)(bytearray(b"written, "))
        return [b"returned"]

    with serve(application) as server:
        assert server.get().body == b"written, returned"
