"""The control line of real supervisors: each request over a plain socket, and each command once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.certificates import PASSWORD, certificates
from support.clients import ask
from support.descriptors import sockets
from support.load import loaded
from support.operated import Operated, operated
from support.process import DEADLINE, OUR_VARIABLES, HybridProcess
from support.service import APPLICATIONS, eventually, serving

TWO = """
[service.web]
target = "plain:tell_pid"
bind = "127.0.0.1:0"
workers = 2

[service.chat]
target = "plain:tell_pid"
bind = "127.0.0.1:0"
workers = 1
"""
ONE = TWO.partition("[service.chat]")[0]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Operated]:
    """A supervisor of `web`, with two workers, and `chat`, with one."""
    with operated(TWO, tmp_path, services=2) as found:
        yield found


def pids(status: dict[str, object], name: str = "web") -> list[int]:
    """Return the pids of the workers of a service that serve, from a status, in order of slots."""
    services: list[dict[str, object]] = status["services"]  # type: ignore[assignment]
    (service,) = [one for one in services if one["name"] == name]
    return [worker["pid"] for worker in service["workers"] if worker["state"] == "ready"]  # type: ignore[attr-defined]


# --- requests


def test_a_status_is_about_the_living_processes(shop: Operated) -> None:
    line = shop.connects()
    status = line.result("status")
    assert (status["pid"], status["name"], status["phase"]) == (shop.process.pid, shop.directory.name, "serving")
    assert sorted(pids(status, "web") + pids(status, "chat")) == sorted(shop.process.worker_pids())
    web, chat = status["services"]
    assert (web["kind"], web["target"], web["loop"], web["ready"]) == ("application", "plain:tell_pid", "epoll", 2)
    assert sorted(web["addresses"] + chat["addresses"]) == sorted(shop.process.addresses)
    assert all(worker["memory"] > 1 << 20 for worker in web["workers"])


def test_a_reload_replaces_the_workers_of_all_services(shop: Operated) -> None:
    line = shop.connects()
    before = shop.process.worker_pids()
    assert line.result("reload") == {"services": {"web": {"generation": 2}, "chat": {"generation": 2}}}
    assert line.progress[0] == {"service": "web", "ready": 0, "of": 2}
    after = line.result("status")
    assert not set(before) & {*pids(after, "web"), *pids(after, "chat")}


def test_a_scale_is_answered_when_so_many_serve(shop: Operated) -> None:
    line = shop.connects()
    assert line.result("scale", service="chat", by=1) == {"service": "chat", "workers": 2}
    assert line.result("scale", workers=1) == {"service": "web", "workers": 1}
    status = line.result("status")
    assert (len(pids(status, "web")), len(pids(status, "chat"))) == (1, 2)


def test_a_restart_replaces_one_worker(shop: Operated) -> None:
    line = shop.connects()
    before = pids(line.result("status"))
    answer = line.result("restart", service="web", slot=1)
    assert answer == {"service": "web", "slot": 1, "pid": pids(line.result("status"))[1]}
    assert pids(line.result("status"))[0] == before[0]
    eventually(lambda: not processes.is_alive(before[1]), "the old worker has ended")


def test_a_service_stops_and_the_others_go_on(shop: Operated) -> None:
    line = shop.connects()
    assert line.result("stop", service="web") == {"service": "web"}
    web, chat = line.result("status")["services"]
    assert (web["phase"], web["workers"], chat["phase"]) == ("ended", [], "serving")


@pytest.mark.parametrize(("now", "code"), [(False, 0), (True, 9)])
def test_the_supervisor_stops_and_tells_its_exit_code(tmp_path: Path, now: bool, code: int) -> None:
    with operated(ONE, tmp_path, ends=False) as shop:
        line = shop.connects()
        answer = line.result("stop", now=now)
        assert answer["code"] == shop.process.wait()
        assert (answer["code"] == 0) is not now
    assert not shop.control.exists()


def test_a_log_level_changes_what_is_logged(shop: Operated) -> None:
    line = shop.connects()
    assert line.result("loglevel", level="error") == {"level": "error", "for": None}
    mark = shop.mark()
    line.result("reload", service="chat")
    assert not [text for text in shop.process.lines[mark:] if f"pid={shop.process.pid} " in text]
    line.result("loglevel", level="info")
    line.result("reload", service="chat")
    shop.process.wait_for_log("reload complete", since=mark)


def test_a_subscriber_hears_of_a_death(shop: Operated) -> None:
    line = shop.connects()
    assert "recent" in line.result("subscribe")
    (pid,) = pids(line.result("status"), "chat")
    os.kill(pid, signal.SIGKILL)
    death, ready = line.event("death"), line.event("ready")
    assert (death["service"], death["slot"], death["pid"]) == ("chat", 0, pid)
    assert "SIGKILL" in death["how"]
    assert (ready["service"], ready["slot"]) == ("chat", 0)


def test_an_upgrade_is_answered_when_the_successor_serves_and_keeps_the_number_of_workers(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with operated(ONE, tmp_path, "--pidfile", str(pidfile), ends=False) as shop:
        line = shop.connects()
        address = shop.process.address
        with loaded(lambda: ask(address, b"")) as load:
            assert line.result("scale", workers=3) == {"service": "web", "workers": 3}
            load.wait_answers(50)
            successor = line.result("upgrade")["pid"]
            assert line.progress[-1] == {"pid": successor}
            load.wait_answers(50)
            eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
            load.wait_answers(50)
        assert load.failures == []
        status = shop.connects().result("status")
        assert (status["pid"], status["services"][0]["ready"]) == (successor, 3)
        assert shop.connects().result("stop") == {"code": 0}


def test_an_upgrade_that_fails_leaves_the_control_file_to_the_old_supervisor(tmp_path: Path) -> None:
    with operated(ONE, tmp_path) as shop:
        line = shop.connects()
        shop.writes(ONE.replace("plain:tell_pid", "plain:no_such_thing"))
        code, reason = line.error("upgrade")
        assert code == "failed"
        assert reason
        status = shop.connects().result("status")
        assert (status["pid"], status["services"][0]["target"]) == (shop.process.pid, "plain:tell_pid")


# --- the socket


def test_a_control_file_is_for_its_owner_only_and_is_removed_at_the_end(tmp_path: Path) -> None:
    with operated(ONE, tmp_path) as shop:
        assert stat.S_IMODE(shop.control.stat().st_mode) == 0o600
    assert not shop.control.exists()


def test_a_control_file_is_open_to_its_group(tmp_path: Path) -> None:
    with operated(ONE, tmp_path, "--control-group", str(os.getegid())) as shop:
        status = shop.control.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getegid())


def test_a_file_that_is_no_socket_is_not_replaced_and_the_service_starts(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("mine")
    with operated(ONE, tmp_path) as shop:
        shop.process.wait_for_log(r"no control line: .*the file exists and is no socket")
    assert (tmp_path / "control").read_text() == "mine"


def test_without_a_control_line_there_is_no_socket(tmp_path: Path) -> None:
    with serving("plain:tell_pid", "--control", "off", cwd=tmp_path) as process:
        assert f"/{process.pid}." not in Path("/proc/net/unix").read_text()


def test_an_abstract_name_is_the_default(tmp_path: Path) -> None:
    with serving("plain:tell_pid", "--service", "till", cwd=tmp_path) as process:
        assert f"@hybrid/till/{process.pid}." in Path("/proc/net/unix").read_text()


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_worker_holds_neither_the_listening_socket_nor_those_of_clients(tmp_path: Path, preload: str) -> None:
    with operated(ONE, tmp_path, "--preload", preload) as shop:
        shop.connects().result("ping")
        line = shop.connects()
        line.result("reload")  # while clients are connected
        children = {*shop.process.worker_pids(), *shop.process.zygote_pids()}
        rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
        ours = {f"socket:[{row[6]}]" for row in rows if row[-1] == str(shop.control)}
        assert len(ours) == 3  # the listening one, and one for each client
        assert ours <= sockets(shop.process.pid)
        assert not any(ours & sockets(pid) for pid in children)


STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for _ in range(2):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\\0" + sys.argv[1][1:])
        print(sock.makefile().read(), end="")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_account_is_refused_and_that_is_logged_once(tmp_path: Path) -> None:
    with serving("plain:tell_pid", "--service", "till", cwd=tmp_path) as process:
        rows = Path("/proc/net/unix").read_text().splitlines()
        (name,) = {row.split()[-1] for row in rows if f"@hybrid/till/{process.pid}." in row}
        found = subprocess.run(
            [sys.executable, "-I", "-S", "-c", STRANGER, name], capture_output=True, text=True, check=True
        )
        answers = [json.loads(line) for line in found.stdout.splitlines()]
        assert [answer["error"]["code"] for answer in answers] == ["refused", "refused"]
        process.wait_for_log("control: refused uid 65534")
        assert len([line for line in process.lines if "refused uid" in line]) == 1


def test_a_supervisor_that_restarts_at_changes_listens_too(tmp_path: Path) -> None:
    control = tmp_path / "control"
    (tmp_path / "app.py").write_text("def handle(sock, address):\n    sock.sendall(b'hello')\n")
    with serving("app:handle", "--reload", "--control", str(control), cwd=tmp_path, ready=False) as process:
        process.wait_for_log("serving with")
        shop = Operated(process, tmp_path)
        status = shop.connects().result("status")
        assert status["services"][0]["target"] == "app:handle"
        shop.close()
        assert process.stop() == 0


def test_an_embedded_supervisor_listens_too(tmp_path: Path) -> None:
    from hybrid import Service, Supervisor

    control = tmp_path / "control"
    service = Service("plain:tell_pid", bind="127.0.0.1:0", workers=1, control=str(control), chdir=str(APPLICATIONS))
    with Supervisor(service):
        line = Operated.connects(_At(control))  # type: ignore[arg-type]
        assert line.result("status")["services"][0]["ready"] == 1
        line.close()


class _At:
    """As much of `Operated` as a client needs."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self._open: list[object] = []


# --- commands


def command(shop: Operated, *words: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, its output and its errors."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hybrid", *words, "--control", str(shop.control)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=env,
        cwd=shop.directory,
    )
    return done.returncode, done.stdout, done.stderr


def test_each_command_once(tmp_path: Path) -> None:
    with operated(TWO, tmp_path, services=2, ends=False) as shop:
        name = tmp_path.name
        code, out, _ = command(shop, "status")
        assert code == 0
        assert [word for word in ("web/0", "web/1", "chat/0") if word not in out] == []
        assert json.loads(command(shop, "status", "chat", "--json")[1])["services"][0]["name"] == "chat"
        assert command(shop, "scale", "web", "+1")[:2] == (0, "web has 3 workers\n")
        assert command(shop, "restart", "web/2")[0] == 0
        assert command(shop, "reload", "chat")[:2] == (0, "chat is reloaded: generation 2\n")
        assert command(shop, "reload")[0] == 0
        assert command(shop, "loglevel", "debug", "--for", "60")[:2] == (0, f"{name} logs at debug for 60 s\n")
        assert command(shop, "events")[0] == 0
        assert command(shop, "stop", "chat")[:2] == (0, "chat has stopped\n")
        assert command(shop, "stop")[:2] == (0, f"{name} has stopped\n")
        assert shop.process.wait() == 0


def test_scale_upgrade_status_says_six_under_load(tmp_path: Path) -> None:
    with operated(ONE, tmp_path, "--workers", "1", ends=False) as shop:
        address = shop.process.address
        with loaded(lambda: ask(address, b"")) as load:
            assert command(shop, "scale", "web", "6")[0] == 0
            assert command(shop, "upgrade")[0] == 0
            load.wait_answers(20)
            eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
            (web,) = json.loads(command(shop, "status", "--json")[1])["services"]
            load.wait_answers(20)
        assert load.failures == []
        assert (web["wanted"], web["ready"], len(web["workers"])) == (6, 6, 6)
        assert command(shop, "stop")[0] == 0


# --- HUP


def hup(shop: Operated) -> int:
    """Send HUP; return the place in the log where its lines begin."""
    mark = shop.mark()
    shop.process.signal(signal.SIGHUP)
    return mark


def test_hup_applies_the_file(shop: Operated) -> None:
    shop.writes(TWO.replace("workers = 2", "workers = 3\ngraceful_timeout = 7"))
    mark = hup(shop)
    shop.process.wait_for_log("reload complete: 3 workers of generation 2", since=mark)
    shop.process.wait_for_log("reload complete: 1 worker of generation 2", since=mark)
    assert shop.connects().result("stop", service="web") == {"service": "web"}
    shop.process.wait_for_log(r"draining 3 workers \(at most 7 s\)", since=mark)


def test_hup_with_a_target_that_cannot_be_loaded_leaves_the_old_generation_its_own(tmp_path: Path) -> None:
    """Also a worker of the old generation that dies afterwards, and imports the target itself."""
    before = ONE + 'preload = "off"\n'
    with operated(before, tmp_path) as shop:
        shop.writes(before.replace("plain:tell_pid", "plain:nothing"))
        mark = hup(shop)
        shop.process.wait_for_log("reload failed, generation 1 goes on", since=mark)
        line = shop.connects()
        victim, other = pids(line.result("status"))
        os.kill(victim, signal.SIGKILL)
        shop.process.wait_for_log("ready on", since=mark)
        eventually(lambda: len(pids(line.result("status"))) == 2, "both serve")
        assert other in pids(line.result("status"))


def test_hup_names_what_needs_an_upgrade(shop: Operated) -> None:
    shop.writes(TWO.replace('"127.0.0.1:0"', '"127.0.0.1:1"', 1))
    mark = hup(shop)
    shop.process.wait_for_log(r"the configuration has changed in bind: an upgrade", since=mark)
    shop.process.wait_for_log("reload complete: 2 workers", since=mark)
    assert "127.0.0.1:1" not in shop.connects().result("status")["services"][0]["addresses"]


def test_hup_adds_and_removes_services(shop: Operated) -> None:
    shop.writes(TWO.replace("service.chat", "service.talk"))
    mark = hup(shop)
    shop.process.wait_for_log("no longer in the configuration: stopping", since=mark)
    shop.process.wait_for_log("serving with 1 worker", since=mark)
    line = shop.connects()
    eventually(
        lambda: [service["name"] for service in line.result("status")["services"]] == ["web", "talk"],
        "chat has ended",
    )
    assert ask(shop.process.address, b"")


FAULTS = {
    "unknown key": (TWO.replace("workers = 2", "wrokers = 2"), r"hybrid\.toml:5:1: unknown key 'wrokers'"),
    "wrong type": (TWO.replace("workers = 2", 'workers = "two"'), r"hybrid\.toml:5:\d+: .*workers"),
    "no TOML": ("[service.web\n", r"hybrid\.toml:1:\d+: "),
    "circle": (
        TWO.replace("workers = 2", 'depends = ["chat"]').replace("workers = 1", 'depends = ["web"]'),
        r"depends: service web: services depend on each other in a circle: web -> chat -> web",
    ),
    "certificate": (TWO.replace("workers = 2", 'certfile = "none.pem"'), r"certfile: .*none\.pem"),
    "loop": (TWO.replace("workers = 2", 'loop = "none"'), r"loop"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_hup_with_a_fault_in_the_file_changes_nothing(shop: Operated, fault: str) -> None:
    text, line = FAULTS[fault]
    workers = shop.process.worker_pids()
    shop.writes(text)
    mark = hup(shop)
    shop.process.wait_for_log(rf"ERROR .*not reloading, everything goes on as it was: .*{line}", since=mark)
    code, reason = shop.connects().error("reload")
    assert (code, reason.startswith("everything goes on as it was: ")) == ("failed", True)
    assert len([one for one in shop.process.lines[mark:] if " ERROR " in one]) == 1
    assert shop.process.worker_pids() == workers


@pytest.mark.parametrize("fault", ["unknown key", "wrong type", "no TOML"])
def test_a_start_with_a_fault_in_the_file_exits_with_2_and_names_the_place(tmp_path: Path, fault: str) -> None:
    text, line = FAULTS[fault]
    (tmp_path / "hybrid.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hybrid", "run"], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE
    )
    assert done.returncode == 2
    (error, _) = done.stderr.splitlines()
    assert re.search(line, error)


def test_hup_without_the_file_changes_nothing(shop: Operated) -> None:
    (shop.directory / "hybrid.toml").unlink()
    mark = hup(shop)
    shop.process.wait_for_log(r"not reloading, everything goes on as it was: .*hybrid\.toml", since=mark)
    assert len(pids(shop.connects().result("status"))) == 2


def test_hup_of_a_service_that_becomes_a_program_waits_for_an_upgrade(shop: Operated) -> None:
    shop.writes(TWO.replace('target = "plain:tell_pid"\nbind = "127.0.0.1:0"\nworkers = 1', 'command = "sleep 60"'))
    mark = hup(shop)
    shop.process.wait_for_log("the configuration has changed in target, command: an upgrade", since=mark)
    shop.process.wait_for_log("reload complete: 1 worker", since=mark)
    assert ask(shop.process.address, b"")


def test_hup_reads_relative_paths_from_where_the_command_was_typed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with operated(ONE, tmp_path, "--chdir", "work", "--pidfile", "pid") as shop:
        assert (work / "pid").exists()
        mark = hup(shop)
        shop.process.wait_for_log("reload complete", since=mark)
        assert not [line for line in shop.process.lines if "ERROR" in line or "has changed in" in line]


APP = """
from pathlib import Path
def handle(sock, address):
    sock.sendall(f"{Path(__file__).resolve().parent.name} {Path.cwd().name}".encode())
"""


def test_hup_finds_the_file_of_the_release_to_which_a_link_has_moved(tmp_path: Path) -> None:
    for release, workers in (("one", 1), ("two", 2)):
        folder = tmp_path / release
        folder.mkdir()
        (folder / "app.py").write_text(APP)
        text = f'[service.web]\ntarget = "app:handle"\nbind = "127.0.0.1:0"\nworkers = {workers}\n'
        (folder / "hybrid.toml").write_text(text)
    link = tmp_path / "current"
    link.symlink_to("one")
    text = (tmp_path / "one" / "hybrid.toml").read_text()
    with operated(text, link, env={"PWD": str(link)}) as shop:
        draft = tmp_path / "draft"
        draft.symlink_to("two")
        draft.rename(link)
        mark = hup(shop)
        shop.process.wait_for_log("reload complete: 2 workers of generation 2", since=mark)
        # a worker of the old release may accept until it has read the order to drain
        eventually(lambda: ask(shop.process.address, b"") == b"two two", "the new release answers")
    assert not [line for line in shop.process.lines if "has changed in" in line]


CERTIFIED = """certfile = "cert.pem"
keyfile = "key.pem"
"""
TLS = ONE.replace("plain:tell_pid", "wsgi_plain:application") + CERTIFIED


def test_hup_reads_certificates_again_with_the_password_that_was_in_the_environment(tmp_path: Path) -> None:
    files = certificates()
    (tmp_path / "cert.pem").write_bytes(files.certificate.read_bytes())
    (tmp_path / "key.pem").write_bytes(files.encrypted_key.read_bytes())
    with operated(TLS, tmp_path, env={"HYBRID_KEYFILE_PASSWORD": PASSWORD}) as shop:
        shop.writes(TLS + TWO[len(ONE) :].replace("plain:tell_pid", "wsgi_plain:application") + CERTIFIED)
        mark = hup(shop)
        shop.process.wait_for_log("web pid=.*reload complete", since=mark)
        shop.process.wait_for_log("chat pid=.*serving with 1 worker", since=mark)
        for pid in (shop.process.pid, *shop.process.worker_pids()):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # an old worker has ended meanwhile
                assert PASSWORD.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        (tmp_path / "key.pem").write_text("no key")
        mark = hup(shop)
        shop.process.wait_for_log(
            r"not reloading, everything goes on as it was: keyfile: service web: .*key\.pem", since=mark
        )


def test_hup_with_sockets_of_systemd_keeps_them(tmp_path: Path) -> None:
    text = '[service.web]\ntarget = "plain:tell_pid"\nworkers = 1\n'
    (tmp_path / "hybrid.toml").write_text(text)
    starter = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'hybrid', 'run', '--control', 'off'])"
    )
    with socket.create_server(("127.0.0.1", 0)) as passed:
        passed.set_inheritable(True)
        process = HybridProcess(
            str(passed.fileno()),
            cwd=tmp_path,
            env={"PYTHONPATH": str(APPLICATIONS)},
            pass_fds=[passed.fileno()],
            executable=[sys.executable, "-c", starter],
        )
        try:
            process.wait_serving()
            mark = len(process.lines)
            process.signal(signal.SIGHUP)
            process.wait_for_log("reload complete", since=mark)
            assert ask(passed.getsockname(), b"")
            assert not [line for line in process.lines if "has changed in" in line]
            assert process.stop() == 0
        finally:
            assert not process.close()


def test_the_end_of_a_program_is_no_second_start(tmp_path: Path) -> None:
    with operated('[service.mail]\ncommand = ["sleep", "600"]\n', tmp_path) as run:
        line = run.connects()
        line.asks("restart", service="mail", slot=0)
        recent = line.asks("subscribe")["result"]["recent"]
    ready = [event for event in recent if event["event"] == "ready"]
    assert len(ready) == 2
    assert all("slot" in event for event in ready)
