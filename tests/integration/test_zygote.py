"""A zygote in processes: its workers serve on every loop, share the imported code, and end as others do."""

from __future__ import annotations

import os
import pwd
import signal
import tempfile
from pathlib import Path

import pytest
from support.clients import ask, connected
from support.descriptors import links
from support.loops import LOOPS
from support.service import descriptors, eventually, owner
from support.wsgi import Answer, read_answer
from support.zygote_process import ZygoteProcess, zygote_process

from hybrid.workers.contract.exits import Exit

PLAIN = """
import os
from pathlib import Path
NOTES = Path(os.environ["NOTES"])
def note(line):
    with NOTES.open("a") as file:
        file.write(f"{line}\\n")
def handle(sock, address):
    sock.sendall(str(os.getpid()).encode())
"""
WEB = {
    "asgi_fastapi:app": ("/items/7", '"number":7'),
    "asgi_starlette:app": ("/thread", "AnyIO worker thread"),
    "wsgi_flask:app": ("/", "You are not logged in"),
    "wsgi_django:application": ("/polls/", "What"),
}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def get(zygote: ZygoteProcess, path: str) -> Answer:
    with connected(zygote.address) as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
        )  # Django asks whose
        return read_answer(sock)


def notes(cwd: Path) -> list[str]:
    path = cwd / "notes"
    return path.read_text().splitlines() if path.exists() else []


# --- serving


@pytest.mark.parametrize("target", WEB)
def test_a_worker_forked_by_a_zygote_serves(target: str, loop: str, tmp_path: Path) -> None:
    """The audit finds nothing in applications of these frameworks."""
    path, expected = WEB[target]
    with zygote_process(target, tmp_path, loop=loop, workers=1) as zygote:
        zygote.hears("zygote", "Warm")
        pid = zygote.spawn()
        answer = get(zygote, path)
        assert answer.status == 200
        assert expected in answer.body.decode()
        zygote.order(terminate=pid)
        zygote.hears(0, "Draining")
        assert zygote.end_of(pid) == (Exit.OK, None)


@pytest.mark.parametrize("target", ["blocking:handle", "coroutines:handle"])
def test_handlers_wait_as_ever_after_the_fork(target: str, loop: str, tmp_path: Path) -> None:
    with zygote_process(target, tmp_path, loop=loop, workers=1) as zygote:
        zygote.spawn()
        assert ask(zygote.address, b"spawn\n") == b"[1, 2, 3] [3, 1, 2]"


def test_a_worker_after_the_fork_can_fork_itself(loop: str, tmp_path: Path) -> None:
    with zygote_process("forking:closed_in_child_sync", tmp_path, loop=loop, workers=1) as zygote:
        zygote.spawn()
        with connected(zygote.address) as sock:
            sock.sendall(b"go")
            assert sock.recv(6) == b"forked"


def test_the_application_is_imported_once(loop: str, tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN + "note(os.getpid())", loop=loop, workers=4) as zygote:
        workers = {zygote.spawn(slot) for slot in range(4)}
        assert len(workers) == 4
        assert notes(tmp_path) == [str(zygote.zygote)]


def test_the_main_thread_of_a_worker_is_its_main_thread(loop: str, tmp_path: Path) -> None:
    app = PLAIN + (
        "import threading\n"
        "def handle(sock, address):\n"
        "    threads = set(threading.enumerate())\n"  # gevent lists it twice after a fork, on Python 3.13
        "    sock.sendall(b'%d %d' % (threading.main_thread() in threads, threading.main_thread().is_alive()))\n"
    )
    with zygote_process("app:handle", tmp_path, app=app, loop=loop, workers=1) as zygote:
        zygote.spawn()
        assert ask(zygote.address, b"") == b"1 1"


@pytest.mark.parametrize("travels", [False, True], ids=["callable", "pickled"])
def test_a_callable_target_is_warmed(travels: bool, tmp_path: Path) -> None:
    with zygote_process(None, tmp_path, travels=travels, workers=1) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.spawn()
        assert ask(zygote.address, b"") == b"from a closure"


def test_a_hub_started_by_the_import_is_replaced(tmp_path: Path) -> None:
    app = "import gevent.monkey\ngevent.monkey.patch_all()\nimport time\ntime.sleep(0.001)\n" + PLAIN
    with zygote_process("app:handle", tmp_path, app=app, loop="gevent") as zygote:
        workers = {zygote.spawn(slot) for slot in range(2)}
        for _ in range(10):
            assert int(ask(zygote.address, b"")) in workers


# --- what a worker inherits


def test_a_worker_logs_under_its_own_name_and_the_zygote_too(tmp_path: Path) -> None:
    app = PLAIN + "import logging\nlogging.getLogger('hybrid').warning('importing')\n"
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        pid = zygote.spawn(1)
        zygote.process.wait_for_log(f"web/zygote gen=1 pid={zygote.zygote} importing")
        zygote.process.wait_for_log(f"web/1 gen=1 pid={pid} ready on epoll")


def test_changes_of_the_application_to_our_log_stay(tmp_path: Path) -> None:
    app = PLAIN + (
        "import logging, sys\nlogging.getLogger('hybrid').handlers[:] = [logging.StreamHandler(sys.stderr)]\n"
    )
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        zygote.spawn()
        zygote.process.wait_for_log("^ready on epoll")


def test_output_of_the_import_is_printed_once(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN + "print('imported')", workers=3) as zygote:
        for slot in range(3):
            zygote.spawn(slot)
    assert zygote.process.stdout == "imported\n"


def test_the_directory_that_the_import_changes_to_is_that_of_the_workers(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    app = PLAIN + "os.chdir('below')\ndef handle(sock, address):\n    sock.sendall(os.getcwd().encode())\n"
    with zygote_process("app:handle", tmp_path, app=app, workers=1) as zygote:
        zygote.spawn()
        assert ask(zygote.address, b"") == os.fsencode(tmp_path / "below")


def test_signal_handlers_of_the_application_are_the_workers_and_not_the_zygotes(tmp_path: Path) -> None:
    app = PLAIN + (
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: note('TERM'))\n"
        "signal.signal(signal.SIGUSR1, lambda *_: note(f'USR1 {os.getpid()}'))\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n"
    )
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        pid = zygote.spawn()
        os.kill(zygote.zygote, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR1)
        eventually(lambda: notes(tmp_path), "the worker's handler has run")
        blocked = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigBlk" in line)
        assert int(blocked.split()[1], 16) == 1 << (signal.SIGUSR2 - 1)
        zygote.order(terminate=zygote.zygote)
        assert zygote.end_of(zygote.zygote) == (None, "SIGTERM")
        assert notes(tmp_path) == [f"USR1 {pid}"]


def test_exit_handlers_of_the_application_run_in_the_workers_only(tmp_path: Path) -> None:
    with zygote_process(
        "app:handle", tmp_path, app=PLAIN + "import atexit\natexit.register(lambda: note(os.getpid()))"
    ) as zygote:
        pid = zygote.spawn()
        zygote.order(terminate=pid)
        assert zygote.end_of(pid) == (Exit.OK, None)
        zygote.order(hang_up=True)
        assert zygote.end_of(zygote.zygote) == (Exit.OK, None)
    assert notes(tmp_path) == [str(pid)]


def test_a_worker_holds_nothing_of_its_zygotes(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN) as zygote:
        pid = zygote.spawn()
        supervisors = set(open_links(zygote.process.pid).values())

        def private() -> list[str]:
            return [link for link in open_links(zygote.zygote).values() if link not in supervisors]

        eventually(lambda: len(private()) == 1, "the zygote has its end of its channel, and nothing of the worker's")
        assert not set(private()) & set(open_links(pid).values())
        assert [link for link in open_links(pid).values() if link.startswith("pipe:") and link not in supervisors] == []


def test_many_forks_leave_no_descriptor_in_a_zygote(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN) as zygote:
        zygote.spawn()
        held = descriptors(zygote.zygote)
        for _ in range(50):
            pid = zygote.spawn(1)
            zygote.order(terminate=pid)
            zygote.end_of(pid)
        eventually(lambda: descriptors(zygote.zygote) <= held, "the zygote has closed what came with the orders")
        assert not Path(f"/proc/{zygote.zygote}/task/{zygote.zygote}/children").read_text(), "all are reaped"


def test_a_worker_of_a_slot_that_was_added_later_serves(loop: str, tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN, loop=loop, workers=1) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.order(learn=1)
        pid = zygote.spawn(1)
        zygote.order(steer=1)
        zygote.wait(steered=1)
        assert int(ask(zygote.address, b"")) == pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_zygote_and_its_workers_run_as_another_user() -> None:
    """As in test_privileges: root's capabilities are kept, for the interpreter may lie where only root can read."""
    keeping = ["setpriv", "--securebits=+no_setuid_fixup"]
    with tempfile.TemporaryDirectory(prefix="hybrid") as name:
        Path(name).chmod(0o755)
        with zygote_process("app:handle", Path(name), app=PLAIN, prefix=keeping, user="nobody") as zygote:
            workers = [zygote.spawn(slot) for slot in range(2)]
            assert {owner(pid) for pid in (zygote.zygote, *workers)} == {pwd.getpwnam("nobody").pw_uid}


# --- applications that are not to be forked, or not to be had


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='ticker').start()",
            "ticker",
        ),
        ("import asyncio\nloop = asyncio.new_event_loop()", "2 new sockets (a pair), an epoll descriptor"),
        ("import gevent\nlet = gevent.spawn(print)", "1 started greenlet (Greenlet-0)"),
    ],
)
def test_things_that_do_not_survive_a_fork_are_reported(code: str, finding: str, tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=f"{PLAIN}{code}\n") as zygote:
        assert finding in zygote.hears("zygote", "Unfit")["findings"]
        assert zygote.end_of(zygote.zygote) == (Exit.OK, None)


def test_things_that_ended_before_the_audit_are_no_finding(tmp_path: Path) -> None:
    app = PLAIN + (
        "import asyncio, socket, subprocess, sys, threading\n"
        "for _ in range(50):\n"
        "    thread = threading.Thread(target=print)\n    thread.start()\n    thread.join()\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "subprocess.run([sys.executable, '-c', ''], check=True)\n"
        "socket.create_server(('127.0.0.1', 0)).close()\n"
    )
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.spawn()


def test_a_zygote_without_audit_forks_in_spite_of_threads(tmp_path: Path) -> None:
    code = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    with zygote_process(
        "app:handle", tmp_path, app=PLAIN + code, audit=False, env={"PYTHONWARNINGS": "error"}
    ) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.spawn()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def setup():\n    raise LookupError('no settings')\nsetup()", "LookupError: no settings"),
        ("import sys\ndef setup():\n    sys.exit('not today')\nsetup()", "not today"),
    ],
    ids=["exception", "sys.exit"],
)
def test_a_failed_import_is_reported_with_the_applications_frames(code: str, reason: str, tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=code) as zygote:
        said = zygote.hears("zygote", "BootFailed")
        assert said["code"] == Exit.TARGET
        assert reason in said["reason"]
        assert "app.py" in said["reason"]
        assert "in setup" in said["reason"]
        assert zygote.end_of(zygote.zygote) == (Exit.TARGET, None)


def test_gevents_patches_on_another_loop_are_refused(tmp_path: Path) -> None:
    app = "from gevent import monkey\nmonkey.patch_all()\n" + PLAIN
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        assert "write --loop gevent" in zygote.hears("zygote", "BootFailed")["reason"]


def test_addresses_that_the_target_cannot_serve_are_told_by_the_worker(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN, bind="udp://127.0.0.1:0") as zygote:
        zygote.hears("zygote", "Warm")
        zygote.order(spawn=0)
        assert "cannot serve udp:// addresses" in zygote.hears(0, "BootFailed")["reason"]


def test_a_process_that_the_import_forks_does_not_become_a_second_zygote(tmp_path: Path) -> None:
    app = PLAIN + "child = os.fork()\nif child:\n    os.waitpid(child, 0)\n"
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        zygote.process.wait_for_log("a process forked by the import of the target, or by a hook, reached its end")
        zygote.hears("zygote", "Warm")
        zygote.spawn()


def test_a_lack_of_descriptors_is_reported(tmp_path: Path) -> None:
    app = PLAIN + (
        "import resource\n"
        "fd = os.dup(0)\nos.close(fd)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
    )
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.order(spawn=1)
        said = zygote.hears("zygote", "CannotSpawn")
        assert said["slot"] == 1
        assert "may hold no more" in said["reason"]
        zygote.wait(silent=1)


def test_a_zygote_that_cannot_learn_of_a_slot_ends(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.order(forget_descriptors=True)
        assert zygote.end_of(zygote.zygote) == (Exit.ERROR, None)
        zygote.process.wait_for_log("a new slot cannot be served: no descriptors came with the order")


def test_a_zygote_that_does_not_understand_ends(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN) as zygote:
        zygote.hears("zygote", "Warm")
        zygote.order(bad_message=True)
        assert zygote.end_of(zygote.zygote) == (Exit.ERROR, None)
        zygote.process.wait_for_log("not a control message")


# --- ends


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_sigterm_ends_a_zygote_that_hangs_in_the_import(tmp_path: Path, gate: Path) -> None:
    app = PLAIN + f"note('importing')\nopen({str(gate)!r}).read()\n"
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        eventually(lambda: notes(tmp_path), "it imports")
        zygote.order(terminate=zygote.zygote)
        assert zygote.end_of(zygote.zygote) == (None, "SIGTERM")


def test_workers_survive_their_zygote(tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN, workers=1) as zygote:
        pid = zygote.spawn()
        zygote.order(hang_up=True)
        assert zygote.end_of(zygote.zygote) == (Exit.OK, None)
        assert int(ask(zygote.address, b"")) == pid


def test_zygote_and_workers_end_with_their_supervisor(loop: str, tmp_path: Path) -> None:
    with zygote_process("app:handle", tmp_path, app=PLAIN, loop=loop) as zygote:
        for slot in range(2):
            zygote.spawn(slot)
        zygote.process.signal(signal.SIGKILL)
        zygote.process.wait()
        eventually(lambda: not zygote.process.survivors(), "all have noticed")


def test_a_zygote_that_imports_ends_with_its_supervisor(tmp_path: Path, gate: Path) -> None:
    app = PLAIN + f"note('importing')\nopen({str(gate)!r}).read()\n"
    with zygote_process("app:handle", tmp_path, app=app) as zygote:
        eventually(lambda: notes(tmp_path), "it imports")
        zygote.process.signal(signal.SIGKILL)
        zygote.process.wait()
        eventually(lambda: not zygote.process.survivors(), "it has noticed")


def open_links(pid: int) -> dict[int, str]:
    """Return the sockets, pipes and the like of a process: descriptor -> link."""
    return {fd: link for fd, link in links(pid).items() if link.startswith(("socket:", "pipe:", "anon_inode:"))}
