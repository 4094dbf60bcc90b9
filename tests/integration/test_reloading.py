"""`hybrid run --reload` as processes: new code at the old address, and a watcher that nothing ends but a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.clients import ask, connected, read_all
from support.process import HybridProcess, RunHybrid
from support.service import eventually

Command = Callable[..., HybridProcess]
Reloading = Callable[..., HybridProcess]

BROKEN = "def handle(:\n"
WAITING = "the service has ended with code 3; waiting for a change"


def says(word: str) -> str:
    """A handler whose source is as long as that of any word of the same length."""
    return f"def handle(sock, address):\n    sock.sendall(b'{word}')\n"


def boots_for_ever(mark: str) -> str:
    return f"import signal\nopen({mark!r}, 'w').close()\nsignal.pause()\n"


@pytest.fixture
def reloading(hybrid_run: RunHybrid) -> Reloading:
    """Start `hybrid run --reload app:handle`, one worker unless told otherwise."""

    def start(*arguments: str, app: str = says("one"), **options: object) -> HybridProcess:
        workers = () if "--workers" in arguments else ("--workers", "1")
        return hybrid_run("--reload", *workers, *arguments, "app:handle", app=app, **options)

    return start


def edit(directory: Path, text: str, name: str = "app.py") -> None:
    (directory / name).write_text(text)


def edit_and_wait(process: HybridProcess, directory: Path, text: str, name: str = "app.py") -> None:
    """Change a file and wait until the service says that it serves again."""
    place = len(process.lines)
    edit(directory, text, name)
    process.wait_for_log(r"serving with \d+ worker", since=place)


# --- changes


def test_changed_code_is_logged_and_served_at_the_same_address(reloading: Reloading, tmp_path: Path) -> None:
    process = reloading()
    assert ask(process.address, b"") == b"one"
    for word in ("two", "six"):  # as long as before, within the same second: what is compiled already must not be used
        edit_and_wait(process, tmp_path, says(word))
        assert ask(process.address, b"") == word.encode()
    assert process.wait_for_log(r"INFO +web pid=\d+ reload: app\.py changed; restarting$", count=2)
    assert len(set(process.addresses)) == 1
    assert process.stop() == 0


def test_a_module_that_is_imported_counts_as_well(reloading: Reloading, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    edit(tmp_path, "WORD = b'one'\n", "package/words.py")
    app = "from package.words import WORD\ndef handle(sock, address):\n    sock.sendall(WORD)\n"
    process = reloading(app=app)
    assert ask(process.address, b"") == b"one"
    edit_and_wait(process, tmp_path, "WORD = b'two'\n", "package/words.py")
    assert ask(process.address, b"") == b"two"
    assert process.wait_for_log("reload: package/words.py changed")


def test_a_connection_made_while_no_worker_is_there_waits(reloading: Reloading, tmp_path: Path) -> None:
    process = reloading()
    edit(tmp_path, BROKEN)
    process.wait_for_log(WAITING)
    with connected(process.address) as sock:
        edit(tmp_path, says("new"))
        assert read_all(sock) == b"new"


def test_broken_code_is_told_and_mended_by_the_next_change(reloading: Reloading, tmp_path: Path) -> None:
    process = reloading(app=BROKEN, serving=False)
    process.wait_for_log("cannot import 'app'")
    process.wait_for_log(WAITING)
    edit_and_wait(process, tmp_path, says("fit"))
    assert ask(process.address, b"") == b"fit"
    assert process.stop() == 0


def test_a_change_while_the_service_boots_restarts_it_once_more(reloading: Reloading, tmp_path: Path) -> None:
    process = reloading(app=boots_for_ever("booting"), serving=False)
    eventually((tmp_path / "booting").exists, "the first code is being imported")
    edit_and_wait(process, tmp_path, says("two"))
    assert ask(process.address, b"") == b"two"


def test_an_open_connection_delays_a_restart_by_two_seconds_at_most(reloading: Reloading, tmp_path: Path) -> None:
    app = "def handle(sock, address):\n    sock.sendall(b'!')\n    sock.recv(1)\n"
    process = reloading(app=app)
    with connected(process.address) as sock:
        assert sock.recv(1) == b"!"
        edit_and_wait(process, tmp_path, says("two"))
        assert sock.recv(1) == b""


def test_every_worker_of_several_serves(reloading: Reloading, tmp_path: Path) -> None:
    app = "import os\ndef handle(sock, address):\n    sock.sendall(b'%d' % os.getpid())\n    sock.recv(1)\n"
    process = reloading("--workers", "2", app=app)
    seen: set[bytes] = set()
    eventually(lambda: seen.add(ask(process.address, b"")) or len(seen) == 2, "both have answered")
    edit_and_wait(process, tmp_path, says("two"))
    assert ask(process.address, b"") == b"two"


# --- options


def test_other_files_are_watched_and_sources_left_out_as_asked(reloading: Reloading, tmp_path: Path) -> None:
    process = reloading("--reload-include", "*.html", "--reload-exclude", "test_*.py")
    edit(tmp_path, "x = 1", "test_app.py")
    edit(tmp_path, "just words", "notes.txt")
    edit_and_wait(process, tmp_path, "<p>", "page.html")
    assert process.wait_for_log("reload: page.html changed; restarting")
    assert ask(process.address, b"") == b"one"


def test_another_directory_is_watched_instead(reloading: Reloading, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    process = reloading("--reload-dir", "src")
    assert process.wait_for_log(f"reload: watching {tmp_path}/src$")
    edit(tmp_path, says("two"))
    edit_and_wait(process, tmp_path, "", "src/other.py")
    assert process.wait_for_log("reload: other.py changed; restarting")


def test_chdir_is_where_the_target_is_and_what_is_watched(hybrid_run: RunHybrid, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    edit(tmp_path, says("one"), "elsewhere/there.py")
    process = hybrid_run("--reload", "--chdir", "elsewhere", "--workers", "1", "there:handle")
    edit_and_wait(process, tmp_path, says("two"), "elsewhere/there.py")
    assert ask(process.address, b"") == b"two"


def test_a_unix_socket_stays_and_goes_with_the_watcher(reloading: Reloading, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    process = reloading("--bind", "unix:a.sock", "--unix-mode", "640")
    before = path.stat()
    edit_and_wait(process, tmp_path, says("two"))
    assert ask(str(path), b"") == b"two"
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)
    assert process.stop() == 0
    assert not path.exists()


def test_the_pidfile_names_the_watcher(reloading: Reloading, tmp_path: Path) -> None:
    process = reloading("--pidfile", "x.pid")
    edit_and_wait(process, tmp_path, says("two"))
    assert int((tmp_path / "x.pid").read_text()) == process.pid
    assert process.stop() == 0
    assert not (tmp_path / "x.pid").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--reload-dir", "."], "--reload-dir needs --reload"),
        (["--reload", "--check"], "--check and --reload exclude each other"),
        (["--reload", "--reload-dir", "nowhere"], "there is no such directory"),
        (["--reload", "--reload-include", "/etc/*"], "--reload-include: '/etc/*': give a pattern"),
    ],
)
def test_options_that_cannot_be_are_answered_in_one_line(
    hybrid_command: Command, arguments: list[str], expected: str
) -> None:
    process = hybrid_command("run", *arguments)
    assert process.wait() == 2
    assert expected in process.lines[0]
    assert len(process.lines) == 2


def test_an_address_in_use_ends_the_start(reloading: Reloading, hybrid_run: RunHybrid, tmp_path: Path) -> None:
    host, port = reloading().address
    process = hybrid_run("--reload", "--bind", f"{host}:{port}", "app:handle", serving=False)
    assert process.wait() == 4
    assert "address already in use" in process.lines[-1]


def test_what_watches_files_is_loaded_for_that_alone() -> None:
    code = "import sys, hybrid.cli.commands; print('watchfiles' in sys.modules)"
    told = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


# --- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_by_signal_is_a_success(reloading: Reloading, number: int) -> None:
    process = reloading()
    process.signal(number)
    assert process.wait() == 0
    assert process.wait_for_log("stopped")


def test_an_interrupt_of_the_whole_group_is_one_interrupt(reloading: Reloading) -> None:
    process = reloading()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 0


def test_the_exit_code_is_that_of_the_service(reloading: Reloading) -> None:
    app = "def handle(sock, address):\n    sock.sendall(b'!')\n    __import__('threading').Event().wait()\n"
    process = reloading("--graceful-timeout", "100ms", app=app)
    with connected(process.address) as sock:
        assert sock.recv(1) == b"!"
        assert process.stop() == 7


def test_a_stop_while_the_code_is_broken_ends_the_watcher(reloading: Reloading) -> None:
    process = reloading(app=BROKEN, serving=False)
    process.wait_for_log(WAITING)
    assert process.stop() == 0


def test_the_service_ends_when_its_watcher_is_killed(reloading: Reloading) -> None:
    process = reloading()
    service = psutil.Process(process.pid).children()[0]
    process.signal(signal.SIGKILL)
    eventually(lambda: not service.is_running() or service.status() == psutil.STATUS_ZOMBIE, "the service has ended")


def test_a_service_that_is_stopped_behind_its_back_ends_the_watcher(reloading: Reloading) -> None:
    process = reloading()
    psutil.Process(process.pid).children()[0].terminate()
    assert process.wait() == 0
