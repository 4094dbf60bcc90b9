"""The command `hybrid`, as processes: what it serves, what it says, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clients import ask, connected, talk
from support.loops import ALL_LOOPS, LOOPS
from support.process import OUR_VARIABLES, HybridProcess, RunHybrid

import hybrid
from hybrid.cli.commands import main

Command = Callable[..., HybridProcess]

ECHO = """
def handle(sock, address):
    while data := sock.recv(65536):
        sock.sendall(data)
"""


def finish(process: HybridProcess) -> tuple[int, str, str]:
    """Wait for the end; return code, stdout and stderr."""
    return process.wait(), process.stdout, process.stderr


@pytest.fixture
def answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process, in an empty directory: for answers that start no service.

    With `--check`, so that a mistake which is accepted starts nothing here either.
    """
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(OUR_VARIABLES)]:
        monkeypatch.delenv(name)

    def answer(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return answer


Answered = Callable[..., tuple[int, str, str]]


# --- help and mistakes


def test_without_a_command_the_help_is_shown(hybrid_command: Command) -> None:
    code, out, err = finish(hybrid_command())
    assert (code, err) == (0, "")
    assert "hybrid run myapp:app" in out


def test_the_version_is_shown(hybrid_command: Command) -> None:
    code, out, _ = finish(hybrid_command("--version"))
    assert code == 0
    assert re.fullmatch(r"hybrid, version \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize("word", ["Examples:", "Signals", "Exit codes:", "HYBRID_GRACEFUL_TIMEOUT"])
def test_the_help_of_run_reads_like_a_manual(answered: Answered, word: str) -> None:
    code, out, _ = answered("run", "--help")
    assert code == 0
    assert word in out


def test_a_mistake_ends_the_process_with_the_code_for_it(hybrid_command: Command) -> None:
    code, out, err = finish(hybrid_command("run", "--nonsense"))
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == ["For all options type: hybrid run --help"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["app"], "write module:attribute, e.g. app:handle"),
        (["app.py"], "write module:attribute, e.g. app:handle"),
        (["--loop", "epol"], "did you mean 'epoll'?"),
        (["--workers", "0"], "--workers: 0: use 'auto' or a number from 1"),
        (["--workers", "many"], "write auto or a number"),
        (["--graceful-timeout", "soon"], "is not a duration"),
        (["--graceful-timeout", "100h"], "--graceful-timeout: 360000.0: use a number from 0 to 86400"),
        (["--bind", "localhost"], "--bind: 'localhost' has no port"),
        (["--unix-mode", "rw"], "three octal digits"),
        (["--service", "a b"], "--service: 'a b': use up to 64 letters"),
        (["--user", "no-such-user"], "there is no user 'no-such-user'"),
        (["--chdir", "nowhere"], "there is no such directory"),
        (["--log-level", "loud"], "'loud' is not one of"),
        (["--nonsense"], "No such option"),
        (["--port", "9000", "app:app"], "there is no option --port: write --bind 127.0.0.1:9000"),
        (["-w", "4", "app:app"], "there is no option -w: write --workers 4"),
        (["--interface", "uwsgi"], "'uwsgi' is not one of"),
        (["--max-body-size", "much"], "is not a size: write bytes or a whole number with K, M or G"),
        (
            ["--max-header-bytes", "2G"],
            "--max-header-bytes: 2147483648: use a whole number from 0 to 1073741824",
        ),
        (["--keep-alive-timeout", "2d"], "is not a duration"),
        (["--threads", "4", "--loop", "gevent"], "--threads: 4: requests run in greenlets on gevent: leave --threads"),
        (["--root-path", "shop"], "--root-path: 'shop': begin with a slash"),
        (["--forwarded-allow-ips", "proxy"], "--forwarded-allow-ips: 'proxy': use addresses and networks"),
        (["--access-log", "apache"], "--access-log: 'apache': use common, combined, json, or a format"),
        (["--keyfile", "key.pem"], "--keyfile: TLS needs a certificate: give --certfile too"),
        (["--certfile", "nowhere.pem"], "--certfile: "),
        (["a:b", "c:d"], "'a:b' is a target: give it alone"),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_line_and_with_what_to_type(
    answered: Answered, arguments: list[str], expected: str
) -> None:
    code, out, err = answered("run", "--check", *arguments)
    first, second = err.splitlines()
    assert (code, out) == (2, "")
    assert first.startswith("hybrid: error: ")
    assert expected in first
    assert second == "For all options type: hybrid run --help"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dance"], "No such command 'dance'."),
        (["good:app"], "there is no command 'good:app': write hybrid run good:app"),
        (["--workers", "2", "good:app"], "there is no option --workers: write hybrid run --workers 2 good:app"),
        (["-w", "2", "good:app"], "there is no option -w: write --workers 2, behind hybrid run"),
        (["-n", "shop", "status"], "there is no option -n: write it behind the command: hybrid status -n ..."),
        (["monit"], "there is no command 'monit': write hybrid top"),
    ],
)
def test_an_unknown_command_is_answered_in_one_line(answered: Answered, arguments: list[str], expected: str) -> None:
    code, _, err = answered(*arguments)
    assert code == 2
    assert err.splitlines() == [f"hybrid: error: {expected}", "For all options type: hybrid --help"]


def _hide_uvloop(directory: Path) -> None:
    """Make a PYTHONPATH directory with which Python starts as if uvloop were not installed."""
    (directory / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'uvloop' else find(name, package)\n"
    )


def test_a_loop_that_is_not_installed_is_named_with_what_to_install(hybrid_command: Command, tmp_path: Path) -> None:
    _hide_uvloop(tmp_path)
    code, _, err = finish(hybrid_command("run", "--loop", "uvloop", env={"PYTHONPATH": str(tmp_path)}))
    assert code == 5
    assert "loop uvloop cannot be used here: uvloop is not installed: pip install uvloop" in err


# --- loops


def test_the_loops_are_listed_with_what_they_need(hybrid_command: Command) -> None:
    code, out, _ = finish(hybrid_command("loops"))
    header, *rows = [line.split()[:2] for line in out.splitlines()]
    assert (code, header) == (0, ["NAME", "USABLE"])
    assert rows == [[name, "yes"] for name in ALL_LOOPS]


def test_a_loop_that_cannot_be_used_is_listed_with_the_reason(hybrid_command: Command, tmp_path: Path) -> None:
    _hide_uvloop(tmp_path)
    code, out, _ = finish(hybrid_command("loops", env={"PYTHONPATH": str(tmp_path)}))
    assert code == 0
    assert "uvloop is not usable here: uvloop is not installed: pip install uvloop" in out


# --- the demonstration


def test_the_demonstration_says_what_to_try(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("--workers", "1")
    host, port = process.address
    assert process.wait_for_log(rf"reachable at http://{host}:{port}$")
    assert process.wait_for_log(rf"try: curl http://{host}:{port}/who$")


def test_a_target_of_ones_own_gets_no_such_advice(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", "--workers", "1", app=ECHO)
    assert process.stop() == 0
    assert "try:" not in process.stderr


# --- options


def test_a_target_in_the_working_directory_is_found(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", "--workers", "2", app=ECHO)
    assert ask(process.address, b"round trip") == b"round trip"
    assert process.stop() == 0


def test_chdir_comes_before_the_target_is_looked_for(hybrid_run: RunHybrid, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/there.py").write_text(ECHO)
    process = hybrid_run("there:handle", "--workers", "1", "--chdir", "elsewhere")
    assert ask(process.address, b"found") == b"found"
    assert Path(f"/proc/{process.pid}/cwd").readlink() == tmp_path / "elsewhere"


def test_options_can_be_given_by_environment(hybrid_run: RunHybrid) -> None:
    process = hybrid_run(env={"HYBRID_WORKERS": "3", "HYBRID_SERVICE": "lines", "HYBRID_LOOP": "poll"})
    process.wait_for_log(r"lines/2 gen=1 .* ready on poll")
    process.wait_for_log("serving with 3 workers")


def test_a_platform_gives_the_port_and_the_number_of_workers_by_environment(hybrid_command: Command) -> None:
    process = hybrid_command("run", env={"PORT": "0", "WEB_CONCURRENCY": "3"}).wait_serving()
    assert process.address[0] == "0.0.0.0"
    process.wait_for_log("serving with 3 workers")


def test_options_and_variables_of_our_own_win_over_those_of_the_platform(hybrid_run: RunHybrid) -> None:
    process = hybrid_run(env={"PORT": "1", "WEB_CONCURRENCY": "3", "HYBRID_WORKERS": "1"})
    assert process.address[0] == "127.0.0.1"
    process.wait_for_log("serving with 1 worker")


@pytest.mark.parametrize("port", ["http", "65536", "-1"])
def test_a_port_of_the_environment_that_is_none_is_refused(
    answered: Answered, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("PORT", port)
    code, _, err = answered("run", "--check")
    assert code == 2
    assert f"PORT={port!r} in the environment is not a port" in err


def test_a_start_in_a_removed_directory_is_one_line(hybrid_command: Command, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = ("sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable, "-P", "-m", "hybrid")
    code, _, err = finish(hybrid_command("run", "--check", cwd=gone, executable=shell))
    assert code == 2
    assert err.splitlines()[0].startswith("hybrid: error: --chdir: the current directory was removed")


def test_an_option_wins_over_its_environment_variable(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("--workers", "1", env={"HYBRID_WORKERS": "3"})
    process.wait_for_log("serving with 1 worker")


def test_several_addresses_are_all_served(hybrid_run: RunHybrid, tmp_path: Path) -> None:
    addresses = ("--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0", "--bind", "unix:a.sock")
    process = hybrid_run("app:handle", "--workers", "2", *addresses, app=ECHO)
    ports = [int(address.rpartition(":")[2]) for address in process.addresses[:2]]
    assert [ask(("127.0.0.1", port), b"x") for port in ports] == [b"x", b"x"]
    assert ask(str(tmp_path / "a.sock"), b"y") == b"y"


def test_a_unix_socket_gets_the_mode_asked_for(hybrid_run: RunHybrid, tmp_path: Path) -> None:
    hybrid_run("app:handle", "--workers", "1", "--bind", "unix:a.sock", "--unix-mode", "640", app=ECHO)
    assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o640


def test_an_inherited_descriptor_is_served(hybrid_run: RunHybrid) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        hybrid_run("app:handle", "--workers", "1", "--bind", f"fd://{fd}", app=ECHO, pass_fds=(fd,))
        assert ask(listener.getsockname(), b"inherited") == b"inherited"


def test_sockets_of_systemd_are_served_where_no_address_is_given(hybrid_command: Command) -> None:
    """`exec` keeps the pid, which LISTEN_PID has to name."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        move = "" if fd == 3 else f"os.dup2({fd}, 3);"
        code = (
            f"import os, sys; {move} os.set_inheritable(3, True);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.executable, [sys.executable, '-P', '-m', 'hybrid', *sys.argv[1:]])"
        )
        process = hybrid_command("run", "--workers", "1", executable=[sys.executable, "-c", code], pass_fds=(fd,))
        process.wait_serving()
        answer = ask(listener.getsockname(), b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b'"service": "web"' in answer


def test_an_address_given_wins_over_sockets_of_systemd(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("--workers", "1", env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert process.addresses[0].startswith("127.0.0.1:")


def test_the_log_can_be_json(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", "--workers", "1", "--log-format", "json", app=ECHO)
    assert process.wait_for_log(r'^\{.*"level": "info".*"message": "serving with 1 worker"\}$')


def test_a_quiet_log_level_leaves_out_the_rest(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("nowhere:handle", "--log-level", "error", serving=False)
    assert process.wait() == 3
    assert all(" ERROR " in line for line in process.lines if " pid=" in line)


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
WHO = "import os\ndef handle(sock, address):\n    sock.sendall(f'{os.getuid()} {os.getgid()}'.encode())\n"


def _is_open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in path.resolve().parents)


@NEEDS_ROOT
def test_workers_run_as_the_group_asked_for(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", "--workers", "1", "--group", "65533", app=WHO)
    assert ask(process.address, b"") == b"0 65533"


@NEEDS_ROOT
@pytest.mark.skipif(
    not (_is_open_to_all(Path(os.__file__)) and _is_open_to_all(Path(hybrid.__file__))),
    reason="Python lies in a directory that other users may not read",
)
def test_workers_run_as_the_user_asked_for(hybrid_run: RunHybrid, tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    process = hybrid_run("app:handle", "--workers", "1", "--user", "65534", "--group", "65533", app=WHO)
    assert ask(process.address, b"") == b"65534 65533"


def test_pinned_workers_keep_to_one_core(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("--workers", "2", "--pin")
    assert [len(os.sched_getaffinity(pid)) for pid in process.worker_pids()] == [1, 1]


def test_the_pidfile_names_the_supervisor_and_goes_with_it(hybrid_run: RunHybrid, tmp_path: Path) -> None:
    process = hybrid_run("--workers", "1", "--pidfile", "x.pid")
    assert int((tmp_path / "x.pid").read_text()) == process.pid
    assert process.stop() == 0
    assert not (tmp_path / "x.pid").exists()


# --- how it ends


def test_an_import_error_ends_the_start_with_one_clear_line(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", app="import no_such_module_anywhere\n", serving=False)
    assert process.wait() == 3
    assert [line for line in process.lines if " ERROR " in line and "no_such_module_anywhere" in line]


def test_an_address_in_use_ends_the_start_with_one_clear_line(hybrid_run: RunHybrid) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = hybrid_run("--bind", address, serving=False)
        assert process.wait() == 4
    assert len(process.lines) == 1
    assert f"cannot bind {address}: address already in use" in process.lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_by_signal_is_a_success(hybrid_run: RunHybrid, number: int) -> None:
    process = hybrid_run("--workers", "2")
    process.signal(number)
    assert process.wait() == 0
    process.wait_for_log("stopped")


def test_a_worker_that_does_not_drain_is_killed_after_the_grace(hybrid_run: RunHybrid) -> None:
    app = "def handle(sock, address):\n    sock.sendall(b'!')\n    while True: pass\n"
    process = hybrid_run("app:handle", "--workers", "1", "--graceful-timeout", "100ms", app=app)
    with connected(process.address) as sock:
        assert sock.recv(1) == b"!"
        process.signal(signal.SIGTERM)
        assert process.wait() == 7


def test_a_second_interrupt_ends_at_once(hybrid_run: RunHybrid) -> None:
    app = "def handle(sock, address):\n    sock.sendall(b'!')\n    sock.recv(1)\n"
    process = hybrid_run("app:handle", "--workers", "1", app=app)
    with connected(process.address) as sock:
        assert sock.recv(1) == b"!"
        process.signal(signal.SIGINT)
        process.wait_for_log("stopping")
        process.signal(signal.SIGINT)
        assert process.wait(10) == 7


# --- check


@pytest.mark.parametrize("loop", LOOPS)
def test_check_says_what_would_be_served(hybrid_run: RunHybrid, loop: str) -> None:
    process = hybrid_run("app:handle", "--workers", "2", "--loop", loop, "--check", app=ECHO, serving=False)
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"app:handle: sync stream handler on {loop}; 2 workers on 127\.0\.0\.1:\d+\n", out)


@pytest.mark.parametrize(
    ("app", "options", "what"),
    [
        ("def app(environ, start_response): ...", [], "WSGI application"),
        ("async def app(scope, receive, send): ...", [], "ASGI application"),
        ("import flask\napp = flask.Flask(__name__)", [], "WSGI application"),
        ("import fastapi\napp = fastapi.FastAPI()", [], "ASGI application"),
        ("def app(): return lambda environ, start_response: None", ["--factory"], "WSGI application"),
        ("def app(a, b): ...", ["--interface", "wsgi", "--proxy-protocol"], "WSGI application"),
    ],
)
def test_check_recognises_web_applications(hybrid_run: RunHybrid, app: str, options: list[str], what: str) -> None:
    process = hybrid_run("app:app", "--workers", "1", "--loop", LOOPS[0], *options, "--check", app=app, serving=False)
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    assert out.startswith(f"app:app: {what} on {LOOPS[0]}; 1 worker on ")


@pytest.mark.parametrize("option", ["--check", "--graceful-timeout=5"])
def test_children_are_seen_to_end_where_our_parent_ignores_its_own(hybrid_run: RunHybrid, option: str) -> None:
    """What is ignored stays so in a program that is executed (execve(2)), and the kernel reaps children unseen."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'hybrid', *sys.argv[1:]])"
    )
    ignoring = (sys.executable, "-P", "-c", code)
    serves = option != "--check"
    process = hybrid_run("app:handle", "--workers=1", option, app=ECHO, serving=serves, executable=ignoring)
    assert (process.stop() if serves else process.wait()) == 0
    assert ("stopped" if serves else "") in process.stderr


def test_check_keeps_what_the_target_prints_off_the_summary(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", "--check", app=f"print('loading')\n{ECHO}", serving=False)
    code, out, err = finish(process)
    assert code == 0
    assert "loading" in err
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("app", "code", "expected"),
    [
        ("import no_such_module_anywhere", 3, "no_such_module_anywhere"),
        ("x = 1", 3, "handle"),
        ("def handle(): pass", 3, "handle is: it takes (); write --interface wsgi or"),
        ("def handle(): pass", 3, "if it is an application factory add --factory"),
        ("def handle(scope): pass", 3, "only ASGI 3 is supported"),
        ("raise SystemExit(0)", 3, ""),
        ("import os; os._exit(9)", 6, "ended with code 9"),
        ("import os; os.kill(os.getpid(), 9)", 6, "was killed by SIGKILL"),
    ],
)
def test_check_finds_a_bad_target_and_survives_it(hybrid_run: RunHybrid, app: str, code: int, expected: str) -> None:
    process = hybrid_run("app:handle", "--check", app=app, serving=False)
    ended, out, err = finish(process)
    assert (ended, out) == (code, "")
    assert err.startswith("hybrid: error: ")
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("app", "options", "expected"),
    [
        ("def handle(sock, address): ...", ["--proxy-protocol"], "--proxy-protocol is for WSGI and ASGI applications"),
        ("def handle(sock, address): ...", ["--factory"], "handle(sock, address) cannot be called without arguments"),
        ("async def handle(): ...", ["--factory"], "the application factory app:handle is async"),
        ("def handle(): 1 / 0", ["--factory"], "the application factory app:handle failed: ZeroDivisionError"),
        ("async def handle(scope, receive, send): ...", ["--bind", "udp://127.0.0.1:0"], "cannot serve udp://"),
    ],
)
def test_check_finds_options_that_do_not_fit_the_target(
    hybrid_run: RunHybrid, app: str, options: list[str], expected: str
) -> None:
    bind = [] if "--bind" in options else ["--bind", "127.0.0.1:0"]
    process = hybrid_run("app:handle", *bind, *options, "--check", app=app, serving=False)
    code, out, err = finish(process)
    assert (code, out) == (3, "")
    assert expected in err


def test_check_gives_up_on_a_target_that_does_not_load(hybrid_run: RunHybrid) -> None:
    app = "import signal\nsignal.pause()\n"
    process = hybrid_run("app:handle", "--check", "--boot-timeout", "200ms", app=app, serving=False)
    code, _, err = finish(process)
    assert code == 6
    assert "not loaded within 0.2 s" in err


def test_an_interrupt_while_checking_ends_it_and_its_child(hybrid_run: RunHybrid) -> None:
    app = "import signal\nprint('loading', flush=True)\nsignal.pause()\n"
    process = hybrid_run("app:handle", "--check", app=app, serving=False)
    process.wait_for_log("loading")
    process.signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 1
    assert err.endswith("hybrid: error: interrupted")


def test_check_finds_an_address_in_use(hybrid_run: RunHybrid) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = finish(hybrid_run("--check", "--bind", address, serving=False))
    assert (code, out) == (4, "")
    assert err.startswith(f"hybrid: error: cannot bind {address}: address already in use")


# --- promise 4: the supervisor is clean


def test_the_supervisor_imports_neither_the_target_nor_a_loop(hybrid_command: Command, tmp_path: Path) -> None:
    """The supervisor writes down its modules when it ends."""
    (tmp_path / "app.py").write_text(ECHO)
    (tmp_path / "tell.py").write_text(
        "import atexit, os, sys\n"
        "owner = os.getpid()\n"
        "def tell():\n"
        "    if os.getpid() == owner:\n"
        "        open('modules', 'w').write('\\n'.join(set(sys.modules) - before))\n"
        "atexit.register(tell)\n"
        "before = set(sys.modules)  # a coverage tool may have loaded some\n"
        "from hybrid.cli.commands import main\n"
        "main()\n"
    )
    arguments = ("run", "--bind", "127.0.0.1:0", "--workers", "1", "--loop", LOOPS[0], "app:handle")
    process = hybrid_command(*arguments, executable=[sys.executable, "tell.py"])
    process.wait_serving()
    assert talk(process.address, b"x", 1) == b"x"
    assert process.stop() == 0
    modules = set((tmp_path / "modules").read_text().splitlines())
    assert not modules & {"app", "asyncio", "gevent", "greenlet", "uvloop", "multiprocess", "hybrid.workers.main"}
    assert "hybrid.supervisor.loop" in modules


def test_a_target_with_the_name_of_a_module_of_ours_does_not_reach_the_supervisor(hybrid_run: RunHybrid) -> None:
    process = hybrid_run("app:handle", "--workers", "1", app=ECHO)
    (Path(f"/proc/{process.pid}/cwd").readlink() / "select.py").write_text("raise SystemExit('wrong select')")
    process.signal(signal.SIGTTIN)
    process.wait_for_log("scaling from 1 to 2")
    assert process.stop() == 0
