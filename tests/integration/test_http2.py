"""HTTP/2 under `hybrid run`, on every loop: prior knowledge, ALPN and UNIX sockets, with clients of others."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import certificates
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")

DATA = os.urandom(1_000_000)
TIMEOUT = 30  # seconds for all that one client does
PLACES = [f"{loop}-{interface}" for loop in LOOPS for interface in ("wsgi", "asgi")]


def _serving(place: str, cwd: Path, *options: str) -> Iterator[HybridProcess]:
    loop, _, interface = place.partition("-")
    with serving(f"counting:{interface}", "--workers", "1", "--loop", loop, *options, cwd=cwd) as process:
        yield process
        assert "ERROR" not in process.stderr, process.stderr


@pytest.fixture(scope="module", params=PLACES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One worker on a port and a UNIX socket; the requests are answered with method, target and body."""
    cwd = tmp_path_factory.mktemp("service")
    yield from _serving(request.param, cwd, "--bind", "127.0.0.1:0", "--bind", f"unix:{cwd}/sock")


@pytest.fixture(scope="module", params=PLACES)
def secure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """The same with TLS."""
    made = certificates()
    files = ("--certfile", str(made.certificate), "--keyfile", str(made.key))
    yield from _serving(request.param, tmp_path_factory.mktemp("secure"), *files)


def _curl(*arguments: str, data: bytes = b"") -> bytes:
    """Run curl, which may read `data`; raises where it fails."""
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", str(TIMEOUT), *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT + 5, check=True).stdout


def _base(process: HybridProcess, scheme: str = "http") -> str:
    address = process.address
    return f"{scheme}://{address[0]}:{address[1]}"


TELL = ("-w", " %{http_code} %{http_version} %{num_connects}\n")


def test_curl_speaks_http2_by_prior_knowledge(service: HybridProcess) -> None:
    for path in ("/1", "/pieces", "/2?a=b"):  # curl 7.88 cannot use such a connection twice
        said = _curl("--http2-prior-knowledge", *TELL, f"{_base(service)}{path}").decode()
        assert said == f"GET {path}  200 2 1\n"


def test_the_same_port_speaks_http1(service: HybridProcess) -> None:
    assert _curl(*TELL, f"{_base(service)}/1") == b"GET /1  200 1.1 1\n"


def test_a_unix_socket_speaks_both(service: HybridProcess) -> None:
    path = next(name for name in service.addresses if name.startswith("unix:")).removeprefix("unix:")
    for options, version in (((), b"1.1"), (("--http2-prior-knowledge",), b"2")):
        assert _curl(*options, *TELL, "--unix-socket", path, "http://a/1") == b"GET /1  200 %b 1\n" % version


def test_large_bodies_go_both_ways(service: HybridProcess) -> None:
    said = _curl("--http2-prior-knowledge", "--data-binary", "@-", f"{_base(service)}/echo", data=DATA)
    assert said == b"POST /echo " + DATA


def test_many_requests_at_once_are_answered_over_one_connection(service: HybridProcess) -> None:
    async def ask() -> None:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(http1=False, http2=True, limits=limits, timeout=TIMEOUT) as client:
            urls = [f"{_base(service)}/{number}" for number in range(100)]
            answers = await asyncio.gather(*(client.post(url, content=b"body") for url in urls))
        assert {answer.http_version for answer in answers} == {"HTTP/2"}
        assert [answer.text for answer in answers] == [f"POST /{number} body" for number in range(100)]

    asyncio.run(ask())


def test_a_client_of_tls_negotiates(secure: HybridProcess) -> None:
    trust = ("--cacert", str(certificates().ca))
    base = _base(secure, "https").replace("127.0.0.1", "localhost")
    said = _curl(*trust, "--http2", *TELL, f"{base}/1", f"{base}/pieces", f"{base}/2?a=b").decode()
    assert said.splitlines() == ["GET /1  200 2 1", "GET /pieces  200 2 0", "GET /2?a=b  200 2 0"]
    assert _curl(*trust, "--http1.1", *TELL, f"{base}/1") == b"GET /1  200 1.1 1\n"
    assert _curl(*trust, "--http2", "--data-binary", "@-", f"{base}/echo", data=DATA) == b"POST /echo " + DATA
