"""An installer replaces the package while the service runs: its children go on with the code the service began with."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import certificates
from support.clients import connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import APPLICATIONS, eventually, serving
from support.websocket import HANDSHAKE

import hybrid
import hybrid.supervisor
import hybrid.workers

HTTP = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"2\r\nhi\r\n0\r\n\r\n",
    HANDSHAKE + b"\r\n",
    b"nonsense\r\n\r\n",
)
FAILING = (b"GET /fail HTTP/1.1\r\nHost: localhost\r\n\r\n",)
BYTES = (b"hello",)
ALL = ("--access-log", "combined", "--forwarded-allow-ips", "127.0.0.1", "--max-memory", "1g", "--refork-after", "1000")
TLS = object()
CASES = {
    "wsgi": ("importing:wsgi", HTTP + FAILING, ()),
    "wsgi, all options": ("importing:wsgi", HTTP, ALL),
    "wsgi in threads": ("importing:wsgi", HTTP, ("--threads", "2")),
    "wsgi over TLS": ("importing:wsgi", HTTP, (TLS,)),
    "asgi": ("importing:asgi", HTTP, ()),
    "asgi, all options": ("importing:asgi", HTTP, ALL),
    "asgi over TLS": ("importing:asgi", HTTP, (TLS,)),
    "sync stream": ("importing:sync_stream", BYTES, ()),
    "async stream": ("importing:async_stream", BYTES, ()),
    "protocol": ("importing:Protocol", BYTES, ()),
}  # what is served, what clients send, options
PLACES = [
    (loop, case) for loop in LOOPS for case in CASES if not (loop == "gevent" and case.endswith("threads"))
]  # gevent runs requests in greenlets


def tls_options() -> tuple[str, ...]:
    made = certificates()
    return ("--certfile", str(made.certificate), "--keyfile", str(made.key))


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def exchange(address: tuple[str, int], request: bytes, *, over_tls: bool) -> bytes:
    """Send a request, and return the first of the answer."""
    with connected(address) as plain:
        if not over_tls:
            plain.sendall(request)
            return plain.recv(65536)
        with unchecked().wrap_socket(plain) as sock:
            sock.sendall(request)
            return sock.recv(65536)


@pytest.mark.parametrize(("loop", "case"), PLACES)
def test_a_worker_imports_nothing_of_ours_that_its_zygote_has_not(loop: str, case: str, tmp_path: Path) -> None:
    """What each worker imports for itself takes time and memory in each."""
    target, requests, options = CASES[case]
    over_tls = TLS in options
    arguments = tls_options() if over_tls else tuple(map(str, options))
    with serving(
        target, "--loop", loop, "--workers", "1", "--preload", "on", *arguments, cwd=tmp_path, executed=True
    ) as process:
        for request in requests:
            assert exchange(process.address, request, over_tls=over_tls)
        assert process.stop() == 0
    assert (tmp_path / "notes").read_text().splitlines() == ["imported after the fork: []"]


# --- replaced on the disk


def installed(folder: Path) -> Path:
    """Copy the package into a folder, as an installer lays it out and compiles it; return the folder."""
    names = shutil.ignore_patterns("*.pyc.*")  # drafts that some process may be writing
    home = folder / "site"
    places = {hybrid: "hybrid", hybrid.supervisor: "hybrid/supervisor", hybrid.workers: "hybrid/workers"}
    for module, place in places.items():
        source = Path(str(module.__file__)).parent
        shutil.copytree(source, home / place, ignore=names, dirs_exist_ok=True)
    return home


def break_all(home: Path) -> None:
    """Replace each module by one of a version that fits to nothing."""
    for file in home.rglob("*.py"):
        draft = file.with_suffix(".new")
        draft.write_text("raise ImportError('this module is of another version')\n")
        draft.rename(file)


@contextmanager
def serving_from(home: Path, target: str, *arguments: str, cwd: Path) -> Iterator[HybridProcess]:
    env = {"PYTHONPATH": os.pathsep.join((str(home), str(APPLICATIONS)))}
    with serving(target, *arguments, cwd=cwd, env=env) as process:
        yield process


def kill_one(process: HybridProcess) -> None:
    """Kill a worker, and wait until another one serves."""
    mark = len(process.lines)
    os.kill(process.worker_pids()[0], signal.SIGKILL)
    process.wait_for_log(r"ready on \w+ \(", since=mark)


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("loop", LOOPS)
def test_successors_of_dead_workers_start_after_the_package_was_replaced(
    loop: str, preload: str, tmp_path: Path
) -> None:
    home = installed(tmp_path)
    arguments = ("--loop", loop, "--workers", "1", "--preload", preload, "--access-log", "combined", *tls_options())
    with serving_from(home, "importing:asgi", *arguments, cwd=tmp_path) as process:
        break_all(home)
        kill_one(process)
        assert exchange(process.address, HTTP[0], over_tls=True).startswith(b"HTTP/1.1 200")


def test_a_reload_loads_new_code_of_the_application_and_keeps_ours(tmp_path: Path) -> None:
    home = installed(tmp_path)
    app = tmp_path / "app.py"
    app.write_text("def handle(sock, address):\n    sock.sendall(b'old')\n")
    with serving_from(home, "app:handle", "--workers", "1", cwd=tmp_path) as process:
        break_all(home)
        app.write_text("def handle(sock, address):\n    sock.sendall(b'newer')\n")
        process.signal(signal.SIGHUP)
        process.wait_for_log("reload complete")
        eventually(lambda: exchange(process.address, b"x", over_tls=False) == b"newer", "the old worker has drained")


def test_a_dead_zygote_is_replaced_after_the_package_was(tmp_path: Path) -> None:
    home = installed(tmp_path)
    with serving_from(home, "importing:wsgi", "--workers", "1", cwd=tmp_path) as process:
        break_all(home)
        (old,) = process.zygote_pids()
        os.kill(old, signal.SIGKILL)
        eventually(lambda: process.zygote_pids() not in ([], [old]), "another zygote lives")
        kill_one(process)
        assert exchange(process.address, HTTP[0], over_tls=False).startswith(b"HTTP/1.1 200")


def test_workers_refork_after_the_package_was_replaced(tmp_path: Path) -> None:
    home = installed(tmp_path)
    arguments = ("--workers", "2", "--refork-after", "3")
    with serving_from(home, "importing:wsgi", *arguments, cwd=tmp_path) as process:
        break_all(home)
        for _ in range(8):
            assert exchange(process.address, HTTP[0], over_tls=False).startswith(b"HTTP/1.1 200")
        process.wait_for_log("refork complete")
