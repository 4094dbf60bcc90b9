"""Several services under one supervisor: what happens to one leaves the processes of the others as they are."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest
from support import processes
from support.clients import ask
from support.load import loaded
from support.process import HybridProcess
from support.service import eventually
from support.several import REQUEST, THREE, Several, holders, program, refuses, several

import hybrid
from hybrid import Exit, Service, Supervisor

GOES_ON = THREE.replace("[service.web]", '[service.web]\non_failure = "stop"\nmax_restarts = "1/60"')


def others(run: Several, *names: str) -> dict[str, set[int]]:
    return {name: run.wait_pids(name, 1) for name in names}


def fail(run: Several) -> None:
    """Exceed the limit of `web`: one death is allowed."""
    (victim,) = run.wait_pids("web", 1)
    os.kill(victim, signal.SIGKILL)
    (victim,) = run.wait_pids("web", 1, without={victim})
    os.kill(victim, signal.SIGKILL)


def answers(run: Several) -> None:
    assert ask(run.address("web"), REQUEST).endswith(b"ok")
    assert ask(run.address("chat"), b"hello\n") == b"HELLO\n"


def test_all_services_of_a_file_run(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        answers(run)
        run.process.wait_for_log(r" ticks/0 gen=1 pid=(\d+) up \1 ticks 0")


def test_named_services_run_alone(tmp_path: Path) -> None:
    with several(THREE, "chat", "ticks", cwd=tmp_path, serving=2) as run:
        assert run.wait_pids("chat", 1)
        assert " web " not in run.process.stderr


def test_the_death_of_a_worker_leaves_the_other_services_alone(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        before = others(run, "chat", "ticks")
        (victim,) = run.wait_pids("web", 1)
        os.kill(victim, signal.SIGKILL)
        run.wait_pids("web", 1, without={victim})
        assert others(run, "chat", "ticks") == before
        answers(run)


def test_a_program_that_dies_leaves_the_other_services_alone(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        before = others(run, "web", "chat")
        (victim,) = run.wait_pids("ticks", 1)
        os.kill(victim, signal.SIGKILL)
        run.wait_pids("ticks", 1, without={victim})
        assert others(run, "web", "chat") == before


def test_a_service_that_fails_ends_alone_if_it_says_so(tmp_path: Path) -> None:
    with several(GOES_ON, cwd=tmp_path) as run:
        before = others(run, "chat", "ticks")
        address = run.address("web")
        fail(run)
        run.process.wait_for_log(r"web pid=\d+ the service has failed; the other services go on")
        eventually(lambda: refuses(address), "its port refuses")
        eventually(lambda: holders(address, run.everything() | {run.process.pid}) == {}, "no process holds its socket")
        assert others(run, "chat", "ticks") == before
        assert ask(run.address("chat"), b"hello\n") == b"HELLO\n"
        run.process.signal(signal.SIGHUP)
        run.wait_pids("chat", 1, without=before["chat"])


def test_a_service_that_fails_ends_all_by_default(tmp_path: Path) -> None:
    with several(THREE.replace("[service.web]", '[service.web]\nmax_restarts = "1/60"'), cwd=tmp_path) as run:
        fail(run)
        assert run.process.wait() == Exit.RESTARTS


def test_more_workers_by_a_signal_are_those_of_the_first_service(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        before = others(run, "web", "chat", "ticks")
        run.process.signal(signal.SIGTTIN)
        assert before["web"] < run.wait_pids("web", 2)
        assert others(run, "chat", "ticks") == {name: before[name] for name in ("chat", "ticks")}


def test_a_reload_replaces_the_workers_of_all_services_one_service_after_the_other(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        before = others(run, "web", "chat", "ticks")
        run.process.signal(signal.SIGHUP)
        run.process.wait_for_log("reload complete", count=3)
        for name, pids in before.items():
            run.wait_pids(name, 1, without=pids)
        answers(run)
        turns = re.findall(r" (\w+) pid=\d+ reload(?:ing: starting| complete)", run.process.stderr)
        assert turns == ["web", "web", "chat", "chat", "ticks", "ticks"]


def test_a_service_starts_after_the_one_that_it_depends_on_and_stops_before_it(tmp_path: Path) -> None:
    text = THREE.replace("[service.web]", '[service.web]\ndepends = ["chat", "ticks"]')
    with several(text, cwd=tmp_path) as run:
        assert run.process.stop() == Exit.OK
    order = re.findall(r" (web|chat) pid=\d+ (serving|stopped)", run.process.stderr)
    assert order == [("chat", "serving"), ("web", "serving"), ("web", "stopped"), ("chat", "stopped")]


def test_one_service_has_no_descriptor_of_another(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        for name in ("web", "chat"):
            mine = run.everything() - run.wait_pids("chat" if name == "web" else "web", 1) - run.wait_pids("ticks", 1)
            mine |= {run.process.pid}
            strangers = holders(run.address(name), run.everything() - mine)
            assert strangers == {}, f"{strangers} hold the socket of {name}"


def test_ctrl_c_in_a_terminal_stops_all(tmp_path: Path) -> None:
    with several(THREE, cwd=tmp_path) as run:
        run.wait_pids("ticks", 1)
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait() == Exit.OK
        assert "stopping at once" not in run.process.stderr


# --- programs


def running(*words: str, more: str = "") -> str:
    """Return a file with a program beside a handler."""
    return f"""
[service.chat]
target = "chat:handle"
workers = 1
bind = "127.0.0.1:0"
[service.work]
command = {program(*words)}
{more}
"""


def test_a_program_gets_nothing_of_the_supervisor(tmp_path: Path) -> None:
    with several(running("told"), cwd=tmp_path) as run:
        assert run.process.wait_for_log("fds (.*)")[1] == "0 1 2 3"  # the last one is for /proc
        run.process.wait_for_log("leads True input ''")


def test_a_program_begins_with_no_signal_ignored_or_blocked(tmp_path: Path) -> None:
    text = '[service.work]\ncommand = "cat /proc/self/status"\nrestart = "transient"\n'
    with several(text, cwd=tmp_path, serving=0) as run:
        assert run.process.wait() == Exit.OK
    masks = re.findall(r"Sig(?:Ign|Blk|Cgt):\\t(\w+)|Sig(?:Ign|Blk|Cgt):\s*(\w+)", run.process.stderr)
    of_libc = 0b11 << 31  # 32 and 33, which glibc uses itself
    assert [int("".join(mask), 16) & ~of_libc for mask in masks] == [0, 0, 0]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_children_of_a_program_end_with_it(how: str, tmp_path: Path) -> None:
    with several(running("family"), cwd=tmp_path) as run:
        (parent,) = run.wait_pids("work", 1)
        run.process.wait_for_log(r"child \d+", count=2)
        children = set(map(int, re.findall(r" child (\d+)", run.process.stderr)))
        if how == "kill":
            os.kill(parent, signal.SIGKILL)
            run.wait_pids("work", 1, without={parent})
        else:
            assert run.process.stop() == Exit.OK
        eventually(lambda: not any(map(processes.is_alive, children)), "its children have ended")


def test_a_program_that_ignores_the_request_to_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    with several(running("deaf", more="graceful_timeout = 0.2"), cwd=tmp_path, ends_with={Exit.KILLED}) as run:
        run.wait_pids("work", 1)
    assert "worker still not drained after 0.2 s: killing it" in run.process.stderr


def test_a_program_that_ignores_the_request_to_end_is_replaced_by_a_reload(tmp_path: Path) -> None:
    with several(running("deaf", more="graceful_timeout = 0.2"), cwd=tmp_path, ends_with={Exit.KILLED}) as run:
        before = run.wait_pids("work", 1)
        run.process.signal(signal.SIGHUP)
        run.wait_pids("work", 1, without=before)


def test_a_program_gets_its_own_stop_signal(tmp_path: Path) -> None:
    with several(running("polite", more='stop_signal = "INT"'), cwd=tmp_path) as run:
        run.wait_pids("work", 1)
    assert "WARNING" not in run.process.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("no-such-program-anywhere", "cannot execute no-such-program-anywhere: no such file or directory"),
        ("/etc/passwd", "cannot execute /etc/passwd: permission denied"),
    ],
)
def test_a_program_that_cannot_be_executed_ends_the_start(command: str, says: str, tmp_path: Path) -> None:
    with several(f'[service.work]\ncommand = "{command} --fast"\n', cwd=tmp_path, serving=0) as run:
        assert run.process.wait() == Exit.TARGET
    errors = [line for line in run.process.lines if "ERROR" in line or "WARNING" in line]
    assert len(errors) == 1
    assert errors[0].endswith(says)


def test_a_job_that_is_done_ends_the_supervisor_with_code_0(tmp_path: Path) -> None:
    text = f'[service.job]\ncommand = {program("ends", "0")}\nrestart = "transient"\n'
    with several(text, cwd=tmp_path, serving=0) as run:
        assert run.process.wait() == Exit.OK
    assert "not restarted (restart = transient)" in run.process.stderr


def test_a_job_that_is_done_leaves_the_other_services_running(tmp_path: Path) -> None:
    with several(running("ends", "0", more='restart = "transient"'), cwd=tmp_path) as run:
        run.process.wait_for_log(r" work pid=\d+ stopped")
        assert ask(run.address("chat"), b"hello\n") == b"HELLO\n"


def test_a_job_that_fails_is_run_again_until_its_limit(tmp_path: Path) -> None:
    more = 'restart = "transient"\nmax_restarts = "2/60"\nbackoff = 0.001'
    with several(running("ends", "3", more=more), cwd=tmp_path, serving=0) as run:
        assert run.process.wait() == Exit.RESTARTS
    assert len(re.findall(r"work/0 gen=1 pid=\d+ ends", run.process.stderr)) == 3


# --- upgrades


def test_an_upgrade_takes_all_services_along_and_no_request_fails(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with several(f'pidfile = "{pidfile}"\n{THREE}', cwd=tmp_path) as run:
        web, chat = run.address("web"), run.address("chat")
        run.process.signal(signal.SIGTTIN)
        before = {"web": run.wait_pids("web", 2), **others(run, "chat", "ticks")}

        def request() -> None:
            assert ask(web, REQUEST).endswith(b"ok")
            assert ask(chat, b"hello\n") == b"HELLO\n"

        with loaded(request, clients=3) as load:
            load.wait_answers(20)
            run.process.signal(signal.SIGUSR2)
            run.process.wait_for_log("upgraded: this supervisor has replaced")
            eventually(lambda: not run.process.is_running(), "the old supervisor has ended")
            load.wait_answers(20)
        assert load.failures == []
        assert before.keys() == {"web", "chat", "ticks"}
        for name, pids in before.items():
            run.wait_pids(name, len(pids), without=pids)
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        eventually(lambda: run.everything() == set(), "all have ended")


def test_an_upgrade_to_a_file_in_which_a_service_fails_changes_nothing(tmp_path: Path) -> None:
    """Even if the others would go on without it: here all go on."""
    with several(GOES_ON, cwd=tmp_path) as run:
        before = others(run, "web", "chat", "ticks")
        (tmp_path / "hybrid.toml").write_text(GOES_ON.replace("web:app", "web:gone"))
        run.process.signal(signal.SIGUSR2)
        run.process.wait_for_log("ERROR .*upgrade failed, this supervisor goes on")
        assert others(run, "web", "chat", "ticks") == before
        answers(run)


# --- embedding


def lines(sock: socket.socket, address: object) -> None:
    sock.sendall(sock.recv(100).upper())


def test_a_program_embeds_several_services() -> None:
    common: dict[str, object] = {"bind": "127.0.0.1:0", "workers": 1, "log_level": "warning"}
    one, two = Service(lines, name="one", **common), Service(lines, name="two", depends="one", **common)  # type: ignore[arg-type]
    with Supervisor(one, two, name="both") as running:
        assert len(running.addresses) == 2
        for address in running.addresses:
            host, _, port = address.rpartition(":")
            assert ask((host, int(port)), b"hello") == b"HELLO"
        first = running.status().workers
        assert (running.status().service, running.status(service="two").service) == ("one", "two")
        running.scale(2, service="two")
        assert [worker.state for worker in running.status(service="two").workers] == ["ready", "ready"]
        assert [worker.pid for worker in running.status().workers] == [worker.pid for worker in first]
        with pytest.raises(ValueError, match="there is no service 'three': use one of one, two"):
            running.status(service="three")


@pytest.mark.parametrize(
    ("services", "reason"),
    [
        ((), "give at least one service"),
        ((Service(name="a"), Service(name="a", bind="127.0.0.1:1")), "two services are called 'a'"),
        ((Service(name="a"), Service(name="b")), "service b: 127.0.0.1:8000 is an address of service a"),
        ((Service(name="a", depends="c"),), "service a: 'c': no such service is to run; to run are: a"),
    ],
)
def test_services_that_do_not_fit_together_are_refused(services: tuple[Service, ...], reason: str) -> None:
    with pytest.raises(hybrid.ConfigError, match=reason):
        Supervisor(*services)


# --- before a start


def answer(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    for name, content in (("hybrid.toml", THREE), ("web.py", "app = 3"), ("chat.py", "def handle(sock, address): ...")):
        (tmp_path / name).write_text(content)
    process = HybridProcess(*arguments, cwd=tmp_path)
    try:
        return process.wait(), process.stdout, process.stderr
    finally:
        process.close()


def test_the_configuration_of_all_services_is_shown(tmp_path: Path) -> None:
    code, out, _ = answer(tmp_path, "config")
    assert code == Exit.OK
    assert re.findall(r"^\[service\.(\w+)\]$", out, re.MULTILINE) == ["web", "chat", "ticks"]


def test_each_service_is_checked_in_turn(tmp_path: Path) -> None:
    code, out, _ = answer(tmp_path, "run", "--check", "chat", "ticks")
    assert code == Exit.OK
    chat, ticks = out.splitlines()
    assert re.fullmatch(r"chat: chat:handle: .*; 1 worker on 127.0.0.1:\d+", chat)
    assert re.fullmatch(r"ticks: .*programs.py wait: a program; 1 process", ticks)


def test_the_check_names_the_service_that_cannot_start(tmp_path: Path) -> None:
    code, _, err = answer(tmp_path, "run", "--check")
    assert code == Exit.TARGET
    assert err == "hybrid: error: service web: the target is a int, not something to call: 3"
