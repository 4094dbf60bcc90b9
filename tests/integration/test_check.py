"""`hybrid check`: a service, or all services of the file, checked without being started."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.certificates import certificates
from support.process import HybridProcess
from support.service import serving

Row = tuple[str, str, str]

ECHO = "def handle(sock, address):\n    sock.sendall(sock.recv(9))\n"


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., tuple[int, list[Row]]]:
    """Run `hybrid check --json`; return the exit code, and service, what, level of each finding."""
    (tmp_path / "echo.py").write_text(ECHO)

    def run(*arguments: str, **env: str) -> tuple[int, list[Row]]:
        process = HybridProcess("check", "--json", *arguments, cwd=tmp_path, env=env)
        try:
            code = process.wait()
            rows = json.loads(process.stdout)["findings"]
            return code, [(row["service"], row["what"], row["level"]) for row in rows]
        finally:
            process.close()

    return run


Check = Callable[..., tuple[int, list[Row]]]


def test_a_service_that_can_start_is_fine(check: Check) -> None:
    _, rows = check("--bind", "127.0.0.1:0", "echo:handle")
    assert {("web", "target", "ok"), ("web", "127.0.0.1:0", "ok"), ("web", "options", "ok")} <= set(rows)


def test_all_problems_are_found_at_once(check: Check) -> None:
    arguments = ("--bind", "192.0.2.1:1", "--user", "no-such-user", "--pidfile", "/no/where", "--certfile", "gone")
    code, rows = check(*arguments, "echo:handel")
    errors = {part for _, part, level in rows if level == "error"}
    assert errors == {"192.0.2.1:1", "user", "pidfile", "certificate", "target"}
    assert code == 2


def test_a_missing_program_for_events_and_a_missing_module_of_hooks_are_found(check: Check) -> None:
    code, rows = check("--bind", "127.0.0.1:0", "--on-event", "no-such-program -v", "--hooks", "no_such", "echo:handle")
    assert {part for _, part, level in rows if level == "error"} == {"on_event", "target"}
    assert code == 2


@pytest.mark.parametrize(("flag", "value"), [("--loop", "nope"), ("--access-log", "%(x)q")])
def test_a_wrong_word_does_not_keep_the_addresses_from_being_checked(check: Check, flag: str, value: str) -> None:
    code, rows = check("--bind", "127.0.0.1:0", flag, value, "echo:handle")
    assert ("web", flag.removeprefix("--").replace("-", "_"), "error") in rows
    assert ("web", "127.0.0.1:0", "ok") in rows
    assert code == 2


def test_all_services_of_the_file_are_checked(check: Check, tmp_path: Path) -> None:
    text = 'bind = "127.0.0.1:0"\n[service.a]\ntarget = "echo:handle"\n[service.b]\ntarget = "gone:handle"\n'
    (tmp_path / "hybrid.toml").write_text(text)
    code, rows = check()
    assert {("a", "target", "ok"), ("b", "target", "error")} <= set(rows)
    assert code == 2
    assert {service for service, _, _ in check("a")[1]} == {"a"}


@pytest.mark.parametrize("text", ["workers = \n", "workerz = 2\n", '[service.a]\ntarget = "a:b"\nbind = []\n'])
def test_a_mistake_in_the_file_is_a_finding(check: Check, tmp_path: Path, text: str) -> None:
    (tmp_path / "hybrid.toml").write_text(text)
    code, rows = check()
    assert [row[1:] for row in rows] == [("options", "error")]
    assert code == 2


def test_a_program_is_searched_and_no_application_is_loaded(check: Check, tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text('[service.job]\ncommand = "sleep 5"\n')
    assert [row for row in check()[1] if row[1] in ("target", "command", "nofile")] == [("job", "command", "ok")]
    (tmp_path / "hybrid.toml").write_text('[service.job]\ncommand = "no-such-program"\n')
    code, rows = check()
    assert code == 2
    assert ("job", "command", "error") in rows


def test_services_that_do_not_fit_together_are_a_finding(check: Check, tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text('[service.job]\ncommand = "sleep 5"\ndepends = ["queue"]\n')
    code, rows = check()
    assert code == 2
    assert ("job", "depends", "error") in rows


def test_a_port_of_a_running_hybrid_is_told_as_such(check: Check, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with serving("echo:handle", "--workers", "1", cwd=tmp_path) as process:
        host, port = process.address
        bind = f"{host}:{port}"
        assert ("web", bind, "note") in check("--bind", bind, "echo:handle")[1]
        assert ("web", bind, "error") in check("--bind", bind, "--chdir", "other", "echo:handle")[1]


def test_a_port_of_another_program_is_an_error(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        bind = f"127.0.0.1:{sock.getsockname()[1]}"
        assert ("web", bind, "error") in check("--bind", bind, "echo:handle")[1]


def test_the_address_of_the_admin_is_tried_too(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        assert ("web", admin, "error") in check("--bind", "127.0.0.1:0", "--admin", admin, "echo:handle")[1]


def test_a_target_that_kills_its_process_is_an_error(check: Check, tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGKILL)})\n")
    assert ("web", "target", "error") in check("--bind", "127.0.0.1:0", "dying:handle")[1]


def test_the_certificate_is_read(check: Check) -> None:
    both = str(certificates().both)
    rows = check("--bind", "127.0.0.1:0", "--certfile", both, "echo:handle")[1]
    assert [level for _, part, level in rows if part == "certificate"] in (["ok"], ["warning"])


def test_an_expired_certificate_is_an_error(check: Check) -> None:
    expired = str(certificates().expired)
    assert ("web", "certificate", "error") in check("--certfile", expired, "echo:handle")[1]


def test_an_env_file_is_read_for_the_options_and_the_target(check: Check, tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import os\nos.environ['NEEDED']\n" + ECHO)
    (tmp_path / ".env").write_text("NEEDED=1\nHYBRID_BIND=127.0.0.1:0\n")
    (tmp_path / ".env").chmod(0o600)
    _, rows = check("--env-file", ".env", "needy:handle")
    assert {("web", "target", "ok"), ("web", "127.0.0.1:0", "ok"), ("web", "env_file", "ok")} <= set(rows)
    assert ("web", "env_file", "note") not in rows


def test_lines_are_for_people(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    process = HybridProcess("check", "--bind", "127.0.0.1:0", "echo:handle", cwd=tmp_path)
    try:
        process.wait()
        words = [line.split(maxsplit=2) for line in process.stdout.splitlines()]
        assert ["ok", "target", "echo:handle: sync stream handler on epoll"] in words
    finally:
        process.close()
