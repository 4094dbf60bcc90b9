"""curl, httpx and aiohttp against WSGI and ASGI on every loop: what each sends by itself, and what it understands."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

httpx = pytest.importorskip("httpx")
aiohttp = pytest.importorskip("aiohttp")

DATA = os.urandom(1_000_000)
BLOCKS = [DATA[start : start + 70_001] for start in range(0, len(DATA), 70_001)]
TIMEOUT = 30  # seconds for all that one client does
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@pytest.fixture(scope="module", params=[f"{loop}-{interface}" for loop in LOOPS for interface in ("wsgi", "asgi")])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One worker for all tests; the requests are answered with method, target and body."""
    loop, _, interface = request.param.partition("-")
    cwd = tmp_path_factory.mktemp("service")
    with serving(f"counting:{interface}", "--workers", "1", "--loop", loop, cwd=cwd) as process:
        yield process
        assert "ERROR" not in process.stderr, process.stderr


def _base(service: HybridProcess) -> str:
    host, port = service.address
    return f"http://{host}:{port}"


def _curl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run curl, which may read `data`; raises where it fails."""
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", str(TIMEOUT), *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT + 5, check=True)


# --- curl


@needs_curl
def test_curl_keeps_its_connection(service: HybridProcess) -> None:
    """Requests of several kinds over one connection; the body in pieces comes with the answer's own framing."""
    base = _base(service)
    tell = ("-w", " %{http_code} %{num_connects} %{http_version}\n")
    urls = [f"{base}/1", f"{base}/pieces", f"{base}/2?a=b"]
    assert _curl(*tell, *urls).stdout.decode().splitlines() == [
        "GET /1  200 1 1.1",
        "GET /pieces  200 0 1.1",
        "GET /2?a=b  200 0 1.1",
    ]


@needs_curl
def test_curl_asks_for_heads(service: HybridProcess) -> None:
    """It would wait, or complain, if a body came."""
    base = _base(service)
    heads = _curl("--head", f"{base}/1", f"{base}/pieces").stdout.decode().lower().split("\r\n\r\n")
    assert [head.splitlines()[0] for head in heads if head] == ["http/1.1 200 ok"] * 2
    assert "content-length: 8" in heads[0]
    assert "server: hybrid" in heads[0]


@needs_curl
def test_curl_speaks_http_1_0(service: HybridProcess) -> None:
    """The answer without a length ends with the connection."""
    base = _base(service)
    done = _curl("--http1.0", "-i", f"{base}/pieces", data=b"")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert body == b"GET /pieces "
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    posted = _curl("--http1.0", "--data-binary", "@-", f"{base}/a", data=DATA)
    assert posted.stdout == b"POST /a " + DATA


@needs_curl
def test_curl_posts(service: HybridProcess) -> None:
    """With a length, and in chunks."""
    base = _base(service)
    assert _curl("--data-binary", "@-", f"{base}/a", data=DATA).stdout == b"POST /a " + DATA
    chunks = ("-H", "Transfer-Encoding: chunked", "--data-binary", "@-")
    assert _curl(*chunks, f"{base}/pieces", data=DATA).stdout == b"POST /pieces " + DATA
    assert _curl("-T", "-", f"{base}/put", data=DATA).stdout == b"PUT /put " + DATA


@needs_curl
@pytest.mark.parametrize("framing", [(), ("-H", "Transfer-Encoding: chunked")], ids=["length", "chunks"])
def test_curl_waits_for_100_continue(service: HybridProcess, framing: tuple[str, ...]) -> None:
    """It would wait forever if it were not told to continue."""
    expecting = ("-v", "-H", "Expect: 100-continue", "--expect100-timeout", str(TIMEOUT + 5), *framing)
    done = _curl(*expecting, "--data-binary", "@-", f"{_base(service)}/a", data=DATA)
    assert done.stdout == b"POST /a " + DATA
    assert done.stderr.count(b"< HTTP/1.1 100 Continue") == 1


@needs_curl
def test_curl_offers_http_2_and_goes_on_with_1_1(service: HybridProcess) -> None:
    """An upgrade to h2c is not taken (RFC 9110, section 7.8), with a body neither; the connection is kept."""
    base = _base(service)
    if b"HTTP2" not in _curl("--version").stdout:
        pytest.skip("this curl knows no HTTP/2")
    tell = ("-w", " %{http_code} %{num_connects} %{http_version}\n")
    assert _curl("--http2", *tell, f"{base}/1", f"{base}/2").stdout.decode().splitlines() == [
        "GET /1  200 1 1.1",
        "GET /2  200 0 1.1",
    ]
    assert _curl("--http2", "--data-binary", "@-", f"{base}/a", data=DATA).stdout == b"POST /a " + DATA


# --- httpx


def test_httpx_is_answered(service: HybridProcess) -> None:
    """All kinds of requests, in one connection."""
    ports = []  # the client's own, which tell one connection from another

    def note(answer: Any) -> None:
        ports.append(answer.extensions["network_stream"].get_extra_info("client_addr")[1])

    hooks = {"response": [note]}
    with httpx.Client(base_url=_base(service), trust_env=False, timeout=TIMEOUT, event_hooks=hooks) as client:
        answers = [
            client.get("/1", params={"a": "b c"}),
            client.post("/2", content=DATA),
            client.post("/3", content=iter(BLOCKS)),
            client.put("/pieces", content=iter(BLOCKS)),
            client.head("/4"),
            client.head("/pieces"),
            client.request("GET", "/5", content=b"abc"),
            client.options("/6"),
            client.delete("/7"),
        ]
        assert [answer.content for answer in answers] == [
            b"GET /1?a=b+c ",
            b"POST /2 " + DATA,
            b"POST /3 " + DATA,
            b"PUT /pieces " + DATA,
            b"",
            b"",
            b"GET /5 abc",
            b"OPTIONS /6 ",
            b"DELETE /7 ",
        ]
        assert answers[4].headers["content-length"] == str(len("HEAD /4 "))
        assert answers[3].headers["transfer-encoding"] == "chunked"
        assert client.get("/close").headers["connection"] == "close"
        client.get("/8")
        assert ports == [ports[0]] * (len(answers) + 1) + [ports[-1]]
        assert ports[0] != ports[-1]


# --- aiohttp


def test_aiohttp_is_answered(service: HybridProcess) -> None:
    """All kinds of requests, in one connection; one of them waits for 100 Continue."""
    made: list[None] = []

    async def blocks() -> AsyncIterator[bytes]:
        for block in BLOCKS:
            yield block

    async def main() -> list[bytes]:
        async def note(*_: object) -> None:
            made.append(None)

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(note)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(_base(service), timeout=timeout, trace_configs=[trace]) as session:
            bodies = []
            for method, path, options in (
                ("GET", "/1", {"params": {"a": "b"}}),
                ("POST", "/2", {"data": DATA}),
                ("POST", "/3", {"data": blocks()}),
                ("PUT", "/pieces", {"data": blocks()}),
                ("POST", "/4", {"data": blocks(), "expect100": True}),
                ("HEAD", "/5", {}),
                ("DELETE", "/6", {}),
            ):
                async with session.request(method, path, **options) as answer:  # type: ignore[arg-type]
                    assert answer.status == 200
                    bodies.append(await answer.read())
            return bodies

    assert asyncio.run(main()) == [
        b"GET /1?a=b ",
        b"POST /2 " + DATA,
        b"POST /3 " + DATA,
        b"PUT /pieces " + DATA,
        b"POST /4 " + DATA,
        b"",
        b"DELETE /6 ",
    ]
    assert len(made) == 1


def test_aiohttp_asks_many_things_at_once(service: HybridProcess) -> None:
    """Each connection gets its own answers."""

    async def ask(session: Any, number: int) -> bool:
        async with session.post(f"/{number}", data=DATA[:number]) as answer:
            return bool(await answer.read() == b"POST /%d " % number + DATA[:number])

    async def main() -> list[bool]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(_base(service), timeout=timeout) as session:
            return await asyncio.gather(*(ask(session, number * 331) for number in range(200)))

    assert asyncio.run(main()) == [True] * 200
