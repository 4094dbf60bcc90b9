"""The audit of an import finds each kind of thing that does not survive a fork, and nothing else.

An audit looks at all objects except those that the check for leftovers has frozen before each test. So it neither sees
objects of other tests nor takes the time for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import greenlet
import pytest
from support.rows import for_each

from hybrid.workers.boot import audit, native_threads


@pytest.fixture
def before() -> audit.Census:
    return audit.census()


@contextlib.contextmanager
def thread(name: str) -> Iterator[None]:
    """A thread that lives as long as the block."""
    ended = threading.Event()
    made = threading.Thread(target=ended.wait, name=name)
    made.start()
    try:
        yield
    finally:
        ended.set()
        made.join()


def test_where_nothing_came_nothing_is_found(before: audit.Census) -> None:
    assert audit.findings(before) == []


# --- threads and greenlets


def test_threads_are_named(before: audit.Census) -> None:
    with thread("ticker"), thread("flusher"):
        assert audit.findings(before) == ["2 live threads (flusher, ticker)"]


def test_threads_that_were_there_before_are_not_the_imports() -> None:
    with thread("older"):
        assert audit.findings(audit.census()) == []


def test_a_thread_that_has_been_joined_is_gone(before: audit.Census) -> None:
    for _ in range(100):
        with thread("short"):
            pass
        assert audit.findings(before) == []


def test_a_thread_that_only_the_kernel_knows_is_found(before: audit.Census) -> None:
    with thread("library"):
        made = next(item for item in threading.enumerate() if item.name == "library")
        del threading._active[made.ident]  # type: ignore[attr-defined]
        try:
            (found,) = audit.findings(before)
            assert found.startswith("1 live thread of C code (")
        finally:
            threading._active[made.ident] = made  # type: ignore[attr-defined]


@for_each(
    ("file", "calls_others"),
    [
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", True),
        ("/opt/python/lib/libpython3.11.so.1.0", True),
        ("/opt/python/bin/python3.11", True),
        ("/opt/python/lib/python3.11/lib-dynload/_socket.cpython-311-x86_64-linux-gnu.so", True),
        ("/app/site-packages/greenlet/_greenlet.cpython-311-x86_64-linux-gnu.so", True),
        ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", True),
        ("/usr/lib/x86_64-linux-gnu/libz.so.1.2.13", True),
        ("/usr/lib/x86_64-linux-gnu/libzmq.so.5", False),
        ("/app/site-packages/numpy.libs/libscipy_openblas64_-ff651d7f.so", False),
        ("/app/site-packages/libcurl/libcurl.so", False),
        ("/app/python3.11/site-packages/_polars.abi3.so", False),
    ],
)
def test_a_thread_is_named_after_a_library_that_starts_threads(file: str, calls_others: bool) -> None:
    assert bool(native_threads._RUNTIME.match(file)) == calls_others


def test_greenlets_that_have_begun_are_found_and_others_not(before: audit.Census) -> None:
    main = greenlet.getcurrent()
    made = greenlet.greenlet(main.switch)
    assert audit.findings(before) == []
    made.switch()
    assert audit.findings(before) == ["1 started greenlet"]
    made.switch()
    assert audit.findings(before) == []


def test_objects_that_do_not_tell_their_class_are_passed_over(before: audit.Census) -> None:
    """A weak proxy of a dead object raises on access, as does a web framework's proxy outside of a request."""

    class Gone:
        pass

    class Evasive:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise RuntimeError("working outside of request context")

    kept = [weakref.proxy(Gone()), Evasive()]
    with pytest.raises(ReferenceError):
        isinstance(kept[0], greenlet.greenlet)
    assert audit.findings(before) == []


# --- descriptors


def test_connected_and_listening_sockets_are_found_with_their_addresses(before: audit.Census) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        served, listening = (f"127.0.0.1:{sock.getsockname()[1]}" for sock in (client, server))
        peer, _ = server.accept()
        with peer:
            expected = f"3 new sockets ({', '.join(sorted({served, listening}))})"
            assert audit.findings(before) == [expected]


def test_a_pair_of_sockets_is_found(before: audit.Census) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert audit.findings(before) == ["2 new sockets (a pair)"]


def test_a_unix_socket_is_found_by_its_path(before: audit.Census) -> None:
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{name}/sock")
        server.listen()
        assert audit.findings(before) == [f"1 new socket ({name}/sock)"]


def test_sockets_to_which_nothing_can_come_are_not_found(before: audit.Census) -> None:
    """As a logger's line to syslog, and a socket for statistics that has not sent yet."""
    with (
        tempfile.TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        socket.socket(),
    ):
        server.bind(f"{name}/log")
        line.connect(f"{name}/log")
        assert audit.findings(before) == [f"1 new socket ({name}/log)"], "the server of this test alone"


def test_looking_at_a_socket_leaves_it_as_it_is(before: audit.Census) -> None:
    socket.setdefaulttimeout(7)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            os.set_blocking(server.fileno(), True)
            assert len(audit.findings(before)) == 1
            assert os.get_blocking(server.fileno())
            assert socket.getdefaulttimeout() == 7
    finally:
        socket.setdefaulttimeout(None)


def test_epoll_and_the_like_are_found(before: audit.Census) -> None:
    first, second, eventfd = select.epoll(), select.epoll(), os.eventfd(0)
    try:
        assert audit.findings(before) == ["2 epoll descriptors", "an eventfd descriptor"]
    finally:
        first.close()
        second.close()
        os.close(eventfd)


def test_an_event_loop_is_found(before: audit.Census) -> None:
    loop = asyncio.new_event_loop()
    try:
        assert "an epoll descriptor" in audit.findings(before)
    finally:
        loop.close()


def test_files_and_pipes_are_fine(before: audit.Census) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb"), tempfile.TemporaryFile():  # noqa: PTH123 - descriptors
        assert audit.findings(before) == []


def test_unreferenced_objects_are_collected_and_not_found(before: audit.Census) -> None:
    class Client:
        """Closes its descriptor when it is collected, which a cycle delays."""

        def __init__(self) -> None:
            self.sock = socket.create_server(("127.0.0.1", 0))
            self.me = self

        def __del__(self) -> None:
            self.sock.close()

    gc.disable()
    try:
        Client()
        assert audit.findings(before) == []
    finally:
        gc.enable()


# --- children and timers


def test_a_child_is_found_until_it_is_waited_for() -> None:
    program = "import sys; from hybrid.workers.boot import audit; import subprocess; before = audit.census()\n"
    program += "child = subprocess.Popen([sys.executable, '-c', ''], stdin=subprocess.PIPE)\n"
    program += "print(audit.findings(before)); child.communicate(); print(audit.findings(before))"
    assert run(program) == ["['a child process']", "[]"]


def test_a_running_timer_is_found(before: audit.Census) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 3600)
    try:
        assert audit.findings(before) == ["a running timer"]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


# --- gevent, in a separate process

PATCHED = (
    "from gevent import monkey; monkey.patch_all()\nfrom hybrid.workers.boot import audit; before = audit.census()\n"
)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", []),
        ("import time; time.sleep(0.001)", []),
        ("from concurrent.futures import ThreadPoolExecutor as P; pool = P(1)", []),
        ("import threading; t = threading.Thread(target=print, args=('',)); t.start(); t.join()", []),
        ("import gevent; let = gevent.spawn(len, '')", ["1 started greenlet (Greenlet-0)"]),
        ("import gevent; let = gevent.spawn(gevent.sleep, 9); gevent.sleep(0)", ["1 started greenlet (Greenlet-0)"]),
    ],
)
def test_an_idle_hub_of_gevent_is_no_finding_but_its_greenlets_are(code: str, expected: list[str]) -> None:
    assert run(f"{PATCHED}{code}\nprint(audit.findings(before))")[-1] == repr(expected)


def test_a_live_thread_of_a_patched_process_is_found() -> None:
    code = (
        "import threading; t = threading.Thread(target=threading.Event().wait, name='ticker', daemon=True); t.start()"
    )
    found = run(f"{PATCHED}{code}\nprint(audit.findings(before))")[-1]
    assert "1 live thread (ticker)" in found


def test_gevents_own_threads_are_found() -> None:
    code = "import gevent; gevent.get_hub().threadpool.apply(print, ('',))"
    assert "1 live thread of " in run(f"{PATCHED}{code}\nprint(audit.findings(before))")[-1]


def run(program: str) -> list[str]:
    """Run a program and return the lines it prints."""
    command = [sys.executable, "-P", "-c", program]
    with tempfile.TemporaryDirectory() as cwd:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


# --- threads of C code

LOOK = "import os, sys\nfrom hybrid.workers.boot import audit\nbefore = audit.census()\n"
NATIVE = (
    "import ctypes, threading\n"
    "begun = threading.Semaphore(0)\n"
    "{kind}\n"
    "libc = ctypes.CDLL(None)\n"
    "for _ in range(2):\n"
    "    libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, {function}, None)\n"
)


def test_threads_of_unknown_libraries_are_counted() -> None:
    native = NATIVE.format(kind="pause = ctypes.cast(ctypes.CDLL(None).pause, ctypes.c_void_p)", function="pause")
    assert "2 live threads of C code (" in run(f"{LOOK}{native}print(audit.findings(before))")[-1]


def test_the_library_that_has_started_threads_is_named_with_the_cure() -> None:
    """Here it is that of C callbacks into Python."""
    kind = "call = ctypes.CFUNCTYPE(None)(lambda: (begun.release(), libc.pause()))"
    native = NATIVE.format(kind=kind, function="call")
    found = run(f"{LOOK}{native}begun.acquire(); begun.acquire()\nprint(audit.findings(before))")[-1]
    assert re.search(r"2 live threads of (libffi|_ctypes)\S+ \(.*import it where it is first used\)", found)


def test_numpys_threads_survive_a_fork() -> None:
    assert run(f"{LOOK}import numpy\nprint(audit.findings(before))") == ["[]"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the account")
def test_numpys_threads_are_known_after_a_change_of_account() -> None:
    """Then the kernel hides the state of threads."""
    code = (
        "import numpy\nos.setgid(65534)\nos.setuid(65534)\n"
        "print(audit.findings(before) if os.access(numpy.__file__, os.R_OK) else 'unreadable')"
    )
    said = run(f"{LOOK}{code}")
    if said == ["unreadable"]:
        pytest.skip("the other account cannot read numpy here")
    assert said == ["[]"]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "/v/lib/python3.11/site-packages/scikit_learn.libs/libgomp-e985bcbb.so.1.0.0",
            "libgomp-e985bcbb.so.1.0.0 (of scikit_learn: set OMP_NUM_THREADS=1, or compute nothing at import)",
        ),
        ("/usr/lib/libx.so.1", "libx.so.1 (import it where it is first used)"),
        ("/v/dist-packages/grpc/_cython/c.so", "c.so (of grpc: import it where it is first used)"),
    ],
)
def test_a_library_is_named_with_its_package_and_the_cure(file: str, said: str) -> None:
    assert native_threads.describe(file) == said


def test_a_library_that_cannot_start_threads_is_not_blamed_for_one(tmp_path: Path) -> None:
    """Its address on a stack is stale: gevent's modules, for instance, have only switched greenlets there."""
    without, with_threads = tmp_path / "without.so", tmp_path / "with.so"
    without.write_bytes(b"\x7fELF memcpy\0malloc\0")
    with_threads.write_bytes(b"\x7fELF memcpy\0pthread_create\0")
    assert not native_threads._can_start_threads(str(without))
    assert native_threads._can_start_threads(str(with_threads))
    assert native_threads._can_start_threads(str(tmp_path / "deleted.so"))
