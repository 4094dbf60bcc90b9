"""The applications in the documents run as printed, on all loops: code blocks that begin with `# NAME.py`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.certificates import certificates
from support.clients import TIMEOUT, ask, connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCES = {
    name: body
    for document in ("README.md", "docs/http.md", "docs/libraries.md")
    for name, body in _BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
}  # file name -> its text in the documents

Check = Callable[[HybridProcess], None]


def answers(path: str, text: str) -> Check:
    """Request a path and expect a text."""

    def check(process: HybridProcess) -> None:
        host, port = process.address
        answer = httpx.get(f"http://{host}:{port}{path}", trust_env=False, timeout=TIMEOUT)
        assert (answer.status_code, answer.text) == (200, text)

    return check


def echoes_over_a_websocket(path: str) -> Check:
    """Open a WebSocket and expect an echo."""

    def check(process: HybridProcess) -> None:
        host, port = process.address
        with connect(f"ws://{host}:{port}{path}", proxy=None, open_timeout=TIMEOUT) as client:
            client.send("hello")
            assert client.recv(timeout=TIMEOUT) == "hello"

    return check


def echoes(process: HybridProcess) -> None:
    assert ask(process.address, b"hello\n") == b"hello\n"


CASES: dict[str, tuple[str, Check]] = {
    "echo.py": ("handle", echoes),
    "aecho.py": ("handle", echoes),
    "shop.py": ("app", answers("/price/tea", '{"name":"tea","price":3.5}')),
    "hello.py": ("app", answers("/hello/you", "hello, you!\n")),
    "hello_flask.py": ("app", answers("/", "hello from Flask\n")),
    "hello_fastapi.py": ("app", answers("/double/21", '{"double":42}')),
    "hello_starlette.py": ("app", answers("/", "hello from Starlette\n")),
    "hello_django.py": ("application", answers("/", "hello from Django\n")),
    "hello_wsgi.py": ("app", answers("/", "hello from WSGI\n")),
    "hello_asgi.py": ("app", answers("/", "hello from ASGI\n")),
    "hello_websocket.py": ("app", echoes_over_a_websocket("/")),
    "sock_flask.py": ("app", echoes_over_a_websocket("/echo")),
    "per_worker.py": ("app", answers("/", "mine\n")),
    "with_whitenoise.py": ("app", answers("/static/hello.txt", "hello from a file\n")),
    "with_logging.py": ("app", answers("/", "logged\n")),
}  # file name -> attribute, check
APART = {"names.py"}  # has its own test


@contextmanager
def running(name: str, cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    (cwd / name).write_text(SOURCES[name], encoding="utf-8")
    target = f"{Path(name).stem}:{CASES[name][0]}"
    with serving(target, "--workers", "1", *arguments, cwd=cwd) as process:
        yield process


def test_every_application_of_the_documents_is_run() -> None:
    assert set(SOURCES) == CASES.keys() | APART


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", CASES)
def test_an_application_behaves_as_documented(name: str, loop: str, tmp_path: Path) -> None:
    with running(name, tmp_path, "--loop", loop) as process:
        CASES[name][1](process)


def test_a_hook_chooses_the_certificate_by_name(tmp_path: Path) -> None:
    """As in the section about TLS: one file for each known name, the default certificate for all others."""
    made = certificates()
    for name in ("names.py", "hello_wsgi.py"):
        (tmp_path / name).write_text(SOURCES[name], encoding="utf-8")
    (tmp_path / "shop.example.pem").write_bytes(made.other.read_bytes())
    arguments = ("--certfile", str(made.both), "--sni-hook", "names:choose", "--workers", "1")
    with serving("hello_wsgi:app", *arguments, cwd=tmp_path) as process:
        assert certificate_for("shop.example", process.address) == first_certificate(made.other)
        assert certificate_for("elsewhere.example", process.address) == first_certificate(made.both)


def certificate_for(name: str, address: tuple[str, int]) -> bytes:
    """Return the certificate shown to a client that asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connected(address) as sock, context.wrap_socket(sock, server_hostname=name) as secure:
        return secure.getpeercert(binary_form=True) or b""


def first_certificate(file: Path) -> bytes:
    """Return the first certificate of a PEM file."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = file.read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index(begin) : text.index(end) + len(end)] + "\n")
