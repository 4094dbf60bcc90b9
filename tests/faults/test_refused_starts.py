"""Starts that cannot succeed: one clear line, a distinct exit code, no traceback of ours."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from support.certificates import certificates
from support.process import HybridProcess
from support.service import serving

from hybrid.workers.contract.exits import Exit

QUICK = ("--backoff", "10ms", "--backoff-max", "20ms")
BROKEN = [
    pytest.param("import no_such_module_anywhere", Exit.TARGET, "no_such_module_anywhere", id="import-error"),
    pytest.param("x = 1", Exit.TARGET, "'app' has no attribute 'handle'", id="no-attribute"),
    pytest.param("handle = 42", Exit.TARGET, "the target is a int, not something to call: 42", id="not-callable"),
    pytest.param("def handle(:", Exit.TARGET, "SyntaxError", id="syntax-error"),
    pytest.param("raise LookupError('at import')", Exit.TARGET, "LookupError: at import", id="raises"),
    pytest.param("import sys; sys.exit(42)", Exit.TARGET, "SystemExit: 42", id="sys-exit"),
    pytest.param("raise KeyboardInterrupt", Exit.TARGET, "KeyboardInterrupt", id="keyboard-interrupt"),
    pytest.param("import os; os._exit(42)", Exit.BOOT, "exited with code 42", id="os-exit"),
    pytest.param("import os; os.kill(os.getpid(), 11)", Exit.BOOT, "killed by SIGSEGV", id="segmentation-fault"),
]


def assert_refused(process: HybridProcess, code: int, words: str) -> None:
    """Check that it ends with `code`, and that one record of level ERROR holds `words`."""
    assert process.wait() == code
    records = [line for line in process.lines if " ERROR " in line or " CRITICAL " in line]
    assert len(records) == 1, process.stderr
    said = process.stderr[process.stderr.index(records[0]) :]
    assert words in said, process.stderr
    if "Fatal Python error" not in process.stderr:  # the dump of a crash in C code names every frame, at any place
        assert "hybrid/workers" not in said
        assert "hybrid/supervisor" not in said
    assert not process.survivors()


@pytest.mark.parametrize(("code", "exit_code", "words"), BROKEN)
def test_a_broken_application_ends_the_start(code: str, exit_code: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(f"{code}\n")
    with serving("app:handle", "--workers", "2", *QUICK, cwd=tmp_path, ready=False) as process:
        assert_refused(process, exit_code, words)


@pytest.mark.parametrize("target", ["no_such_module:handle", "no_such_package.module:handle"])
def test_a_module_that_is_missing_ends_the_start(target: str, tmp_path: Path) -> None:
    with serving(target, "--workers", "2", cwd=tmp_path, ready=False) as process:
        assert_refused(process, Exit.TARGET, "there is no module")


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["run", "check"])
def test_a_wrong_sni_hook_says_so(check: tuple[str, ...], tmp_path: Path) -> None:
    """It is code of the application, so only the worker can tell."""
    (tmp_path / "app.py").write_text("def app(environ, start_response): ...\n")
    made = certificates()
    options = ("--workers", "2", "--certfile", str(made.both), "--sni-hook", "app:missing", *QUICK, *check)
    with serving("app:app", *options, cwd=tmp_path, ready=False) as process:
        assert process.wait() == Exit.TARGET
        assert "has no attribute 'missing'" in process.stderr
        assert "Traceback" not in process.stderr


def test_options_without_effect_are_told_once_for_a_service(tmp_path: Path) -> None:
    with serving("plain:tell_pid", "--workers", "2", "--access-log", "common", cwd=tmp_path) as process:
        process.stop()
        assert process.stderr.count("--access-log has no effect for a sync stream handler") == 1


def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        with serving("plain:tell_pid", "--bind", bind, cwd=tmp_path, ready=False) as process:
            assert_refused(process, Exit.BIND, "in use")


def test_a_port_of_another_service_of_ours_ends_the_start(tmp_path: Path) -> None:
    """SO_REUSEPORT alone would let both have it, and each would get half of the connections."""
    with serving("plain:tell_pid", "--workers", "1", cwd=tmp_path) as first:
        bind = "{}:{}".format(*first.address)
        with serving("plain:tell_pid", "--bind", bind, cwd=tmp_path, ready=False) as second:
            assert_refused(second, Exit.BIND, "in use")


def test_a_worker_that_can_no_longer_be_loaded_leaves_the_others_serving(tmp_path: Path) -> None:
    """The application was broken while it was running: the next worker fails, and says why once."""
    app = tmp_path / "app.py"
    app.write_text("from plain import tell_pid as handle\n")
    env = {"PYTHONDONTWRITEBYTECODE": "1"}  # or a version of the same second would be taken for the other
    arguments = ("--workers", "1", "--preload", "off", *QUICK)
    with serving("app:handle", *arguments, cwd=tmp_path, growth=4, env=env) as process:
        app.write_text("raise LookupError('broken since')\n")
        process.signal(signal.SIGTTIN)
        process.wait_for_log("worker cannot start, restarting .*LookupError: broken since")
        app.write_text("from plain import tell_pid as handle\n")
        process.wait_for_log(" ready on ", count=2)
        assert process.stderr.count("LookupError: broken since") == 1
