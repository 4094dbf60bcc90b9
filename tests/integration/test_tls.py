"""TLS under `hybrid run`, on every loop, with OpenSSL's client, Python's, and misbehaving ones."""

from __future__ import annotations

import hashlib
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import Certificates, certificates
from support.changes import PLACES
from support.clients import connected, read_all
from support.handshakes import client_hello
from support.loops import HUB_LOOPS
from support.openssl import PROGRAM, REQUEST, ask, s_client
from support.process import HybridProcess
from support.service import eventually, resident, serving
from support.wsgi import Answer, read_answer, send_request

from hybrid.workers.contract.exits import Exit

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="openssl is not installed")
TARGETS = {"asgi": "asgi_conformance:app", "wsgi": "wsgi_plain:application"}
OLD = ("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
FATAL_PROTOCOL_VERSION = bytes.fromhex("15 0301 0002 0246")  # RFC 5246, section 7.2
BLOCK = bytes(range(256)) * 256
SIZE = 32 * 2**20  # bytes of the large bodies
GROWTH = 12 * 2**20  # bytes that a worker's memory may grow by
HOOK = """
import ssl

def choose(name):
    if name == "other.test":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain({certificate!r})
        return context
    if name == "broken.test":
        raise LookupError(name)
"""


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    loop, interface = request.param
    return str(loop), str(interface)


def is_lean(place: tuple[str, str]) -> bool:
    """Return True if the transport is ours: asyncio's and uvloop's drop the alert of a failed handshake."""
    return place[0] in HUB_LOOPS or place == ("gevent", "wsgi")


@contextmanager
def running(place: tuple[str, str], cwd: Path, *arguments: str, workers: int = 1) -> Iterator[HybridProcess]:
    made = certificates()
    loop, interface = place
    files = ("--certfile", str(made.certificate), "--keyfile", str(made.key))
    count = ("--workers", str(workers))
    with serving(TARGETS[interface], *count, "--loop", loop, *files, *arguments, cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module")
def usual(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests with default options that end nothing."""
    with running(place, tmp_path_factory.mktemp("usual")) as process:
        yield process


@pytest.fixture(scope="module")
def particular(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service that chooses certificates by name, with short timeouts for clients that read nothing."""
    home = tmp_path_factory.mktemp("particular")
    (home / "names.py").write_text(HOOK.format(certificate=str(certificates().other)))
    with running(place, home, "--sni-hook", "names:choose", "--send-timeout", "0.5") as process:
        yield process


@contextmanager
def secured(
    process: HybridProcess, certificate: Path | None = None, version: ssl.TLSVersion | None = None
) -> Iterator[ssl.SSLSocket]:
    context = certificates().client_context(certificate, version)
    with connected(process.address) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        yield sock


def hello(process: HybridProcess, certificate: Path | None = None, version: ssl.TLSVersion | None = None) -> Answer:
    with secured(process, certificate, version) as sock:
        send_request(sock, "/hello", "connection: close")
        answer = read_answer(sock)
        assert read_all(sock) == b""  # the end of the stream; a cut connection would raise
        return answer


def says_hello(process: HybridProcess) -> bool:
    return hello(process).body.startswith(b"hello from")


# --- versions


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_openssls_client_is_served(usual: HybridProcess, version: str) -> None:
    option = f"-tls{version.replace('.', '_')}"
    said = ask(usual.address, certificates().ca, option, "-alpn", "http/1.1")
    assert "ALPN protocol: http/1.1" in said
    assert "Verification: OK" in said
    assert f"New, TLSv{version}" in said
    assert "HTTP/1.1 200 OK" in said
    assert "hello from" in said


def test_tls_1_1_is_refused(usual: HybridProcess, place: tuple[str, str]) -> None:
    said = ask(usual.address, certificates().ca, *OLD)
    assert "hello from" not in said
    assert "Cipher is (NONE)" in said
    if is_lean(place):
        assert "alert protocol version" in said
        with connected(usual.address) as sock:
            sock.sendall(client_hello(0x0302))
            assert read_all(sock)[-7:] in (FATAL_PROTOCOL_VERSION, b"\x15\x03\x02" + FATAL_PROTOCOL_VERSION[3:])
    assert says_hello(usual)


def test_keys_are_updated(usual: HybridProcess) -> None:
    """RFC 8446, section 4.6.3: the server answers with an update of its own, even if it has no data to send."""
    with s_client(usual.address, certificates().ca, "-tls1_3") as client:
        client.wait_says(b"Verify return code")
        for _ in range(3):
            client.types(b"K\n")
            client.wait_says(b"KEYUPDATE\n")
            client.types(REQUEST.replace(b"close", b"keep-alive"))
            client.wait_says(b"hello from")


def test_renegotiation_is_refused(usual: HybridProcess) -> None:
    with s_client(usual.address, certificates().ca, "-tls1_2") as client:
        client.wait_says(b"Extended master secret")
        client.types(b"R\n")
        client.wait_says(b"RENEGOTIATING")
        assert "no renegotiation" in client.wait_ends()
    assert says_hello(usual)


# --- certificates


def test_a_client_certificate_can_be_required(place: tuple[str, str], tmp_path: Path) -> None:
    made = certificates()
    wanted = ("--ca-certs", str(made.ca), "--client-certificate", "required")
    with running(place, tmp_path, *wanted) as process:
        for version in ("-tls1_2", "-tls1_3"):
            for options in ((), ("-cert", str(made.stranger), "-key", str(made.stranger))):
                said = ask(process.address, made.ca, version, *options)
                assert "hello from" not in said
                if is_lean(place):
                    assert "alert" in said
            said = ask(process.address, made.ca, version, "-cert", str(made.client), "-key", str(made.client))
            assert "hello from" in said
        assert hello(process, made.client).status == 200


def test_the_requested_name_chooses_the_certificate(particular: HybridProcess, place: tuple[str, str]) -> None:
    made: Certificates = certificates()
    for name, shown in (("other.test", "other.test"), ("localhost", "localhost")):
        said = ask(particular.address, made.ca, "-servername", name, "-verify_hostname", shown)
        assert "Verification: OK" in said
        assert "hello from" in said
    said = ask(particular.address, made.ca, "-servername", "broken.test")
    assert "hello from" not in said
    if is_lean(place):
        assert "alert internal error" in said
    particular.wait_for_log("choosing a certificate for 'broken.test' failed")


# --- limits and ends


def test_a_missing_handshake_is_cut(place: tuple[str, str], tmp_path: Path) -> None:
    with (
        running(place, tmp_path, "--tls-handshake-timeout", "0.5") as process,
        connected(process.address) as silent,
        connected(process.address) as slow,
    ):
        slow.sendall(client_hello(0x0303)[:20])
        assert says_hello(process)
        assert read_all(silent) == b""
        assert read_all(slow) == b""


def test_large_bodies_pass_unchanged_in_flat_memory(usual: HybridProcess) -> None:
    count = SIZE // len(BLOCK)
    digest = hashlib.sha256(BLOCK * count).hexdigest().encode()
    (worker,) = usual.worker_pids()
    with secured(usual) as sock:
        for warm in (16, count):
            before = resident(worker)
            send_request(sock, "/upload", method="POST", body=BLOCK * warm)
            answer = read_answer(sock)
            send_request(sock, f"/download?{warm}")
            found = hashlib.sha256(read_answer(sock).body).hexdigest().encode()
        assert answer.body == found == digest
        assert resident(worker) - before < GROWTH


def test_a_client_that_does_not_read_is_cut(particular: HybridProcess) -> None:
    with secured(particular) as sock:
        assert says_hello(particular)  # the imports and caches of a first request do not count
        before = resident(particular.worker_pids()[0])
        send_request(sock, "/download?1600")
        eventually(lambda: says_hello(particular) and is_cut(sock), "the client is cut")
        assert resident(particular.worker_pids()[0]) - before < 2 * GROWTH  # of a hundred, kept until it is cut


def is_cut(sock: socket.socket) -> bool:
    """Return True if the server has reset the connection; reads nothing."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_a_graceful_stop_answers_requests_in_progress_and_ends_idle_connections(
    place: tuple[str, str], tmp_path: Path
) -> None:
    """Each client sees the end of the stream, and an unfinished handshake does not keep the worker."""
    gate = tmp_path / "gate"
    options = ("--graceful-timeout", "60", "--keep-alive-timeout", "0.5")
    with (
        running(place, tmp_path, *options) as process,
        secured(process) as idle,
        secured(process, version=ssl.TLSVersion.TLSv1_2) as older,
        secured(process) as deaf,
        secured(process) as under_way,
    ):
        send_request(under_way, f"/nap?{gate}")
        for sock in (idle, older, deaf):  # they come later
            send_request(sock, "/hello")
            assert read_answer(sock).status == 200
        process.signal(signal.SIGTERM)
        assert read_all(idle) == b""
        assert read_all(older) == b""
        gate.touch()
        answer = read_answer(under_way)
        assert (answer.status, answer.header("connection")) == (200, "close")
        under_way.close()  # otherwise the server would linger for a while
        assert process.wait() == Exit.OK  # long before the grace period ends
        assert "did not end" not in process.stderr
