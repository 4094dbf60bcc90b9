"""The shell over a fake kernel: no process is made and no time passes, but sockets and channels are real."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_kernel import FakeKernel

from hybrid.supervisor import loop
from hybrid.supervisor.addresses import parse_bind
from hybrid.supervisor.control import Control, ControlClient, pair
from hybrid.supervisor.events import How
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.sockets import Listeners
from hybrid.supervisor.steering import SteeringError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.seat import Seat

KILLED = How(signal="SIGKILL")


def no_body(seat: Seat) -> int:
    raise AssertionError("a fake kernel runs no child")


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    """A kernel whose children say at once that they serve."""
    made = FakeKernel()
    made.on_fork(made.says_ready)
    yield made
    made.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Give the lines that the supervisor has logged."""
    logger = logging.getLogger("hybrid")
    level, handlers, propagate = logger.level, logger.handlers, logger.propagate
    logger.setLevel(logging.INFO)
    logger.handlers, logger.propagate = [], True
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.level, logger.handlers, logger.propagate = level, handlers, propagate


Log = Callable[[], list[str]]


def settings(**fields: object) -> Settings:
    return Settings(**{"binds": (parse_bind("127.0.0.1:0"),), "workers": 2, **fields})  # type: ignore[arg-type]


def run(kernel: FakeKernel, control: Control | None = None, **fields: object) -> Exit:
    return loop.run(settings(**fields), no_body, kernel, control)


def first(kernel: FakeKernel) -> int:
    return min(kernel.alive)


def test_a_life_from_start_to_stop(kernel: FakeKernel, log: Log) -> None:
    kernel.at(60, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert log()[0].startswith("listening on 127.0.0.1:")
    assert log()[1:] == [
        "serving with 2 workers",
        "stopping: draining 2 workers (at most 30 s); press Ctrl-C again to end at once",
        "stopped",
    ]
    assert [name for _, name in kernel.sent] == ["SIGTERM", "SIGTERM"]


def test_a_report_about_a_worker_carries_its_slot_generation_and_pid(
    kernel: FakeKernel, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.at(3.2, lambda: kernel.dies(first(kernel), KILLED))
    kernel.at(60, lambda: kernel.receives("SIGTERM"))
    run(kernel)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == "worker died: killed by SIGKILL after 3.2 s; restarting now"
    assert (record.__dict__["slot"], record.__dict__["generation"], record.__dict__["subject_pid"]) == (0, 1, 4711)


def test_while_all_serve_nobody_is_woken(kernel: FakeKernel, log: Log) -> None:
    waits: list[float | None] = []
    wait = kernel.wait

    def counting_wait(timeout: float | None) -> list[int]:
        waits.append(timeout)
        return wait(timeout)

    kernel.wait = counting_wait  # type: ignore[method-assign]
    kernel.at(10**6, lambda: kernel.receives("SIGQUIT"))
    assert run(kernel) is Exit.KILLED
    assert waits.count(None) == 1
    assert len(waits) < 8


def test_signals_scale_by_one_and_reload_and_others_are_answered(kernel: FakeKernel, log: Log) -> None:
    for second, name in enumerate(("SIGTTIN", "SIGTTOU", "SIGTTOU", "SIGTTOU", "SIGHUP", "SIGUSR1", "SIGTERM")):
        kernel.at(second + 1.0, lambda name=name: kernel.receives(name))
    assert run(kernel) is Exit.OK
    assert log()[2:-2] == [
        "scaling from 2 to 3 workers",
        "scaling from 3 to 2 workers",
        "worker retired",
        "scaling from 2 to 1 worker",
        "worker retired",
        "not scaling to 0: the number of workers is 1 to 1024",
        "reload is not available yet: restart the service to load new code",
        "SIGUSR1 has no meaning here",
    ]


def test_the_second_interrupt_kills_who_still_drains(kernel: FakeKernel, log: Log) -> None:
    def be_deaf(pid: int) -> None:
        kernel.ignores_terminate(pid)
        kernel.says_ready(pid)

    kernel.on_fork(be_deaf)
    kernel.at(1, lambda: kernel.receives("SIGINT"))
    kernel.at(2, lambda: kernel.receives("SIGINT"))
    assert run(kernel) is Exit.KILLED
    assert kernel.now() < 1010


def test_a_deaf_worker_is_killed_at_the_deadline(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.ignores_terminate(first(kernel)))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, graceful_timeout=7.5) is Exit.KILLED
    assert kernel.now() == pytest.approx(1009.5)
    assert "worker still not drained after 7.5 s: killing it" in log()


def test_a_worker_that_cannot_be_killed_is_left_behind(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.survives_kill(first(kernel)))
    kernel.at(2, lambda: kernel.receives("SIGQUIT"))
    assert run(kernel) is Exit.KILLED
    assert "worker cannot be killed: leaving it behind" in log()
    assert list(kernel.alive) == [4711]


def test_a_target_that_cannot_be_loaded_ends_the_start_in_one_line(kernel: FakeKernel, log: Log) -> None:
    kernel.on_fork(lambda pid: kernel.says_failed(pid, Exit.TARGET, "no module named app"))
    assert run(kernel) is Exit.TARGET
    assert log()[1:] == ["no module named app"]


def test_last_words_are_heard_behind_babble(kernel: FakeKernel, log: Log) -> None:
    def fail(pid: int) -> None:
        kernel.babbles(pid, times=3)
        kernel.says_failed(pid, Exit.LOOP, "uvloop is not installed")

    kernel.on_fork(fail)
    assert run(kernel, workers=1) is Exit.LOOP
    assert log()[1:] == ["ignoring what is not a control message: b'lorem ipsum'", "uvloop is not installed"]


def test_babble_is_logged_once_per_worker_and_otherwise_ignored(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.babbles(first(kernel), times=100))
    kernel.at(2, lambda: kernel.babbles(first(kernel), times=100))
    kernel.at(3, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert sum("not a control message" in line for line in log()) == 1


def test_a_worker_that_hangs_up_and_lives_is_left_in_peace(kernel: FakeKernel, log: Log) -> None:
    kernel.at(1, lambda: kernel.hangs_up(first(kernel)))
    kernel.at(50, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert not any("died" in line for line in log())


def test_a_fork_that_fails_is_tried_again(kernel: FakeKernel, log: Log) -> None:
    kernel.fail_next_fork(errno.EAGAIN)
    kernel.at(5, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert log()[1:3] == [
        "cannot fork a worker: Resource temporarily unavailable; trying again in 0.1 s",
        "serving with 2 workers",
    ]


def test_a_new_slot_without_room_for_its_socket_is_tried_again(
    kernel: FakeKernel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]
    real = socket.socket.bind

    class Scarce(socket.socket):
        def bind(self, address: object) -> None:
            if refusals:
                raise refusals.pop()
            real(self, address)

    kernel.at(1, lambda: monkeypatch.setattr(socket, "socket", Scarce))
    kernel.at(1, lambda: kernel.receives("SIGTTIN"))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert "too many open files; trying again in 0.1 s" in log()[3]
    assert "draining 3 workers" in log()[-2]


def test_a_kernel_that_does_not_steer_is_complained_of_once(
    kernel: FakeKernel, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Listeners, slots: tuple[int, ...]) -> None:
        raise SteeringError("the kernel refuses to steer connections: not here")

    monkeypatch.setattr(Listeners, "steer", refuse)
    for second in (1, 2, 3):
        kernel.at(second, lambda: kernel.dies(first(kernel), KILLED))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert sum("refuses to steer" in line for line in log()) == 1


def test_a_signal_is_not_sent_to_a_pid_that_was_reaped(kernel: FakeKernel, log: Log) -> None:
    """Two deaths are reaped in one turn, and the last words of one end the start: the other's pid is free."""
    kernel.on_fork(lambda pid: None)
    reap = kernel.reap

    def reap_after_both_failed(pids: Collection[int]) -> list[tuple[int, How]]:
        for pid in list(kernel.alive):
            kernel.says_failed(pid, Exit.TARGET, "broken")
        return reap(pids)

    kernel.at(1, lambda: setattr(kernel, "reap", reap_after_both_failed))
    kernel.at(1, lambda: kernel.receives("SIGUSR1"))
    assert run(kernel) is Exit.TARGET
    assert kernel.sent == []


def test_orphans_are_no_workers(kernel: FakeKernel, log: Log) -> None:
    kernel.becomes_pid_one()
    orphans: list[int] = []
    kernel.at(1, lambda: orphans.append(kernel.adopts()))
    kernel.at(9, lambda: kernel.receives("SIGTERM"))
    assert run(kernel) is Exit.OK
    assert not kernel.is_zombie(orphans[0])
    assert not any("died" in line for line in log())


def test_a_port_in_use_ends_the_start_in_one_line(kernel: FakeKernel, log: Log) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(kernel, binds=(parse_bind(f"127.0.0.1:{port}"),)) is Exit.BIND
    hint = f"see who listens with: ss -ltnp 'sport = :{port}'"
    assert log() == [f"cannot bind 127.0.0.1:{port}: address already in use; {hint}"]


def test_a_pidfile_is_kept_while_we_live(kernel: FakeKernel, log: Log, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    seen: list[str] = []
    kernel.at(1, lambda: seen.append(path.read_text()))
    kernel.at(2, lambda: kernel.receives("SIGTERM"))
    assert run(kernel, pidfile=path) is Exit.OK
    assert seen == [f"{os.getpid()}\n"]
    assert not path.exists()


def test_a_pidfile_that_cannot_be_taken_ends_the_start(kernel: FakeKernel, log: Log, tmp_path: Path) -> None:
    assert run(kernel, pidfile=tmp_path / "missing" / "pid") is Exit.ERROR
    assert "cannot write the pidfile" in log()[0]


def test_a_failure_of_our_own_leaves_no_worker(kernel: FakeKernel, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    kernel.at(1, fail)
    with pytest.raises(ZeroDivisionError):
        run(kernel)
    assert kernel.alive == {}
    assert {name for _, name in kernel.sent} == {"SIGKILL"}


def test_a_supervisor_runs_in_the_main_thread_only() -> None:
    errors: list[str] = []

    def try_it() -> None:
        try:
            loop.supervise(settings(), no_body)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


# --- embedded


class Embedder:
    """The other end of the line: says things at a time, and collects what was answered."""

    def __init__(self, kernel: FakeKernel, client: ControlClient) -> None:
        self._kernel = kernel
        self._client = client

    def says(self, seconds: float, **request: object) -> None:
        self._kernel.at(seconds, lambda: os.write(self._client.fileno(), json.dumps(request).encode()))

    def babbles(self, seconds: float) -> None:
        self._kernel.at(seconds, lambda: os.write(self._client.fileno(), b"lorem ipsum"))

    def hangs_up(self, seconds: float) -> None:
        self._kernel.at(seconds, self._client.close)

    def heard(self) -> list[dict[str, Any]]:
        messages = []
        with socket.socket(fileno=os.dup(self._client.fileno())) as sock:
            sock.setblocking(False)
            while True:
                try:
                    datagram = sock.recv(1 << 18)
                except BlockingIOError:
                    return messages
                if not datagram:
                    return messages
                messages.append(json.loads(datagram))


@pytest.fixture
def control() -> Iterator[tuple[Control, ControlClient]]:
    ours, client = pair()
    yield ours, client
    ours.close()
    client.close()


@pytest.fixture
def embedder(kernel: FakeKernel, control: tuple[Control, ControlClient]) -> Embedder:
    return Embedder(kernel, control[1])


Line = tuple[Control, ControlClient]


def test_an_embedder_hears_of_start_and_end(kernel: FakeKernel, log: Log, control: Line, embedder: Embedder) -> None:
    embedder.says(1, id=1, request="stop", graceful=True)
    assert run(kernel, control[0]) is Exit.OK
    started, stopping, ended = embedder.heard()
    assert started["notice"] == "started"
    assert started["addresses"][0].startswith("127.0.0.1:")
    assert stopping == {"id": 1, "result": None}
    assert ended == {"notice": "ended", "code": 0, "reason": ""}


def test_an_embedder_hears_why_a_start_failed(kernel: FakeKernel, log: Log, control: Line, embedder: Embedder) -> None:
    kernel.on_fork(lambda pid: kernel.says_failed(pid, Exit.TARGET, "no module named app"))
    run(kernel, control[0])
    assert embedder.heard() == [{"notice": "ended", "code": 3, "reason": "no module named app"}]


def test_an_embedder_hears_why_an_address_was_refused(
    kernel: FakeKernel, log: Log, control: Line, embedder: Embedder
) -> None:
    run(kernel, control[0], binds=(parse_bind("fd://987654"),))
    (ended,) = embedder.heard()
    assert ended["code"] == Exit.BIND
    assert "no such descriptor" in ended["reason"]


def test_a_status_tells_the_workers(kernel: FakeKernel, log: Log, control: Line, embedder: Embedder) -> None:
    embedder.says(2.5, id=7, request="status")
    embedder.says(3, id=8, request="stop", graceful=False)
    assert run(kernel, control[0], service="chat") is Exit.KILLED
    answer = embedder.heard()[1]
    assert answer["id"] == 7
    assert answer["result"]["service"] == "chat"
    assert answer["result"]["workers"] == [[0, 1, 4711, "ready", 2.5, 0], [1, 1, 4712, "ready", 2.5, 0]]


def test_a_scale_is_answered_when_all_serve_and_the_retired_are_gone(
    kernel: FakeKernel, log: Log, control: Line, embedder: Embedder
) -> None:
    kernel.at(1, lambda: kernel.ignores_terminate(4712))
    embedder.says(2, id=1, request="scale", workers=1)
    embedder.says(3, id=2, request="status")
    kernel.at(4, lambda: kernel.dies(4712, How(code=0)))
    embedder.says(5, id=3, request="stop", graceful=True)
    run(kernel, control[0])
    assert [message["id"] for message in embedder.heard() if "id" in message] == [2, 1, 3]


@pytest.mark.parametrize("workers", [0, 5000])
def test_a_scale_that_cannot_be_is_refused(
    kernel: FakeKernel, log: Log, control: Line, embedder: Embedder, workers: int
) -> None:
    embedder.says(1, id=1, request="scale", workers=workers)
    embedder.says(2, id=2, request="stop", graceful=True)
    run(kernel, control[0])
    assert embedder.heard()[1] == {"id": 1, "error": f"the number of workers is 1 to 1024, not {workers}"}


def test_a_scale_while_stopping_is_refused(kernel: FakeKernel, log: Log, control: Line, embedder: Embedder) -> None:
    kernel.at(1, lambda: kernel.ignores_terminate(4712))
    embedder.says(2, id=1, request="stop", graceful=True)
    embedder.says(3, id=2, request="scale", workers=3)
    run(kernel, control[0])
    assert {"id": 2, "error": "the supervisor is stopping"} in embedder.heard()


def test_the_end_of_the_embedder_is_a_graceful_stop(
    kernel: FakeKernel, log: Log, control: Line, embedder: Embedder
) -> None:
    embedder.hangs_up(1)
    assert run(kernel, control[0]) is Exit.OK
    assert "the embedding process is gone" in log()
    assert [name for _, name in kernel.sent] == ["SIGTERM", "SIGTERM"]


def test_babble_of_an_embedder_is_logged_and_the_rest_is_heard(
    kernel: FakeKernel, log: Log, control: Line, embedder: Embedder
) -> None:
    embedder.babbles(1)
    embedder.says(1, id=1, request="stop", graceful=True)
    assert run(kernel, control[0]) is Exit.OK
    assert "ignoring what is not a request: b'lorem ipsum'" in log()
