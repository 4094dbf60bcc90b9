"""All clients together: how many there may be, who they are, events, scarce descriptors, the end."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.control_line import ControlLoop, Handler, Talker, become, echo, keep
from support.limits import scarce_descriptors

from hybrid.supervisor.control.address import listen
from hybrid.supervisor.control.clients import MOST_UNSENT
from hybrid.supervisor.control.rights import ControlGroup
from hybrid.supervisor.control.server import MOST_CLIENTS, MOST_LOOKERS, MOST_UNSENT_OF_ALL, PAUSE

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
DEADLINE = 30.0  # seconds
NOBODY, OPERATORS = 65534, 4242
SUBSCRIBE = {"id": 1, "request": "subscribe"}
Serve = Callable[..., ControlLoop]


@pytest.fixture
def serve() -> Iterator[Serve]:
    loops: list[ControlLoop] = []

    def make(handler: Handler = echo, **options: Any) -> ControlLoop:
        loops.append(ControlLoop(handler, **options))
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


@pytest.fixture
def loop(serve: Serve) -> ControlLoop:
    return serve()


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Close the clients entered here at the end."""
    with ExitStack() as stack:
        yield stack


def connected(loop: ControlLoop, crowd: ExitStack, count: int) -> list[Talker]:
    talkers = [loop.connects() for _ in range(count)]
    for talker in talkers:
        crowd.callback(talker.close)
    return talkers


# --- how many


def test_further_clients_are_told_that_it_is_busy(loop: ControlLoop, crowd: ExitStack) -> None:
    first = connected(loop, crowd, MOST_CLIENTS)
    (late,) = connected(loop, crowd, 1)
    (answer,) = late.hears()
    assert answer["error"]["code"] == "busy"
    assert late.has_ended()
    assert not late.is_reset
    assert loop.line.clients == MOST_CLIENTS
    first[0].close()
    loop.settle()
    (later,) = connected(loop, crowd, 1)
    assert later.hears()[0]["protocol"] == 1


def test_a_refused_client_that_has_sent_already_reads_why(loop: ControlLoop, crowd: ExitStack) -> None:
    connected(loop, crowd, MOST_CLIENTS)
    late = Talker(loop)
    crowd.callback(late.close)
    late.sends(b"x" * 100_000)
    loop.settle()
    assert late.hears()[0]["error"]["code"] == "busy"
    assert late.has_ended()
    assert not late.is_reset


def test_200_clients_that_never_read_take_a_bounded_amount_of_memory(loop: ControlLoop, crowd: ExitStack) -> None:
    most = 0
    for talker in connected(loop, crowd, 200):
        talker.sends(SUBSCRIBE)
        loop.settle()
        loop.line.publish({"event": "log", "text": "x" * 1000})
        most = max(most, loop.line.size)
    assert loop.line.clients == MOST_CLIENTS
    while loop.line.clients:
        loop.line.publish({"event": "log", "text": "x" * 50_000})
        most = max(most, loop.line.size)
        assert loop.line.size <= MOST_UNSENT_OF_ALL
    assert most > MOST_UNSENT
    assert loop.line.size == 0
    assert loop.line.due is None


def test_without_clients_nothing_is_due(loop: ControlLoop) -> None:
    assert loop.line.due is None
    assert loop.passes(86_400) == 1


def test_idle_clients_cause_no_turn(loop: ControlLoop, crowd: ExitStack) -> None:
    for talker in connected(loop, crowd, MOST_CLIENTS):
        assert talker.hears()
    assert loop.passes(86_400) == 1


def test_a_descriptor_of_others_is_ignored(loop: ControlLoop) -> None:
    assert loop.line.take(0, loop.kernel.now()) == []
    assert list(loop.line.descriptors) == [loop.line.address.sock.fileno()]


def test_accepted_sockets_are_not_inherited_by_programs(loop: ControlLoop, crowd: ExitStack) -> None:
    connected(loop, crowd, 1)
    assert not any(os.get_inheritable(fd) for fd in loop.line.descriptors)


# --- scarce descriptors


def test_without_a_descriptor_it_pauses_and_does_not_spin(
    loop: ControlLoop, crowd: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    (before,) = connected(loop, crowd, 1)
    assert before.hears()
    waiting = [Talker(loop) for _ in range(3)]
    for talker in waiting:
        crowd.callback(talker.close)
    with scarce_descriptors(0):
        assert loop.passes(60) <= 2 * 60 / PAUSE + 2
        assert before.asks({"id": 1, "request": "ping"}) == [{"id": 1, "result": {}}]
        assert [talker.hears() for talker in waiting] == [[], [], []]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "too many open files" in caplog.text
    loop.passes(PAUSE)
    loop.settle()
    assert all(talker.hears()[0]["protocol"] == 1 for talker in waiting)
    assert loop.line.due is None


def test_a_close_during_a_pause_is_the_end(loop: ControlLoop, crowd: ExitStack) -> None:
    waiting = Talker(loop)
    crowd.callback(waiting.close)
    with scarce_descriptors(0):
        loop.settle()
    assert loop.line.due is not None
    loop.line.close()
    assert loop.line.due is None
    loop.passes(2 * PAUSE)
    assert waiting.has_ended()


# --- events


def test_events_reach_subscribers_only(loop: ControlLoop, crowd: ExitStack) -> None:
    one, other = connected(loop, crowd, 2)
    assert not loop.line.has_subscribers
    one.hears(), other.hears()
    assert one.asks(SUBSCRIBE) == [{"id": 1, "result": {"recent": []}}]
    assert loop.requests == []
    assert loop.line.has_subscribers
    loop.line.publish({"event": "ready", "slot": 0})
    assert one.hears() == [{"event": "ready", "slot": 0}]
    assert other.hears() == []
    one.close()
    loop.settle()
    assert not loop.line.has_subscribers


def test_a_subscriber_that_does_not_read_is_dropped_and_others_are_not(loop: ControlLoop, crowd: ExitStack) -> None:
    reads, sleeps = connected(loop, crowd, 2)
    reads.hears()
    reads.asks(SUBSCRIBE), sleeps.sends(SUBSCRIBE)
    loop.settle()
    count = 0
    while loop.line.clients == 2:
        loop.line.publish({"event": "log", "text": "x" * 10_000})
        count += len(reads.hears())
    loop.line.publish({"event": "stop"})
    count += len(reads.hears())
    assert MOST_UNSENT / 10_100 < count < 3 * MOST_UNSENT / 10_000
    assert loop.line.clients == 1


def test_an_event_that_is_no_json_is_dropped(loop: ControlLoop, crowd: ExitStack) -> None:
    (client,) = connected(loop, crowd, 1)
    client.hears(), client.asks(SUBSCRIBE)
    loop.line.publish({"event": object()})
    loop.line.publish({"event": "stop"})
    assert client.hears() == [{"event": "stop"}]


def test_unsent_bytes_may_be_sent_without_a_turn(loop: ControlLoop, crowd: ExitStack) -> None:
    (client,) = connected(loop, crowd, 1)
    client.hears(), client.asks(SUBSCRIBE)
    loop.line.publish({"event": "log", "text": "x" * 500_000})
    before = loop.line.size
    client.sock.recv(300_000)
    loop.line.flush()
    assert loop.line.size < before


# --- the end


def test_at_the_end_open_requests_are_refused_and_all_get_eof(serve: Serve, crowd: ExitStack) -> None:
    loop = serve(keep)
    asks, idle = connected(loop, crowd, 2)
    asks.hears(), idle.hears()
    asks.asks({"id": 1, "request": "reload"}, {"id": 2, "request": "stop"})
    loop.line.answer(loop.requests[1], {"code": 0})
    loop.line.close()
    loop.line.close()
    assert asks.hears() == [
        {"id": 2, "result": {"code": 0}},
        {"id": 1, "error": {"code": "stopping", "reason": "the supervisor ends"}},
    ]
    assert asks.has_ended()
    assert idle.has_ended()
    assert not asks.is_reset
    assert list(loop.line.descriptors) == []
    loop.line.answer(loop.requests[0])
    loop.line.publish({"event": "stop"})
    assert loop.line.advance(loop.kernel.now()) == []


def test_the_file_is_removed_at_the_end(serve: Serve, tmp_path: Path) -> None:
    loop = serve(address=listen(str(tmp_path / "control"), "shop"))
    loop.line.close()
    assert list(tmp_path.iterdir()) == []


@forks
def test_a_child_that_closes_its_copies_changes_nothing(serve: Serve, crowd: ExitStack, tmp_path: Path) -> None:
    loop = serve(address=listen(str(tmp_path / "control"), "shop"))
    (client,) = connected(loop, crowd, 1)
    client.hears()
    if (pid := os.fork()) == 0:
        mine = loop.line.descriptors
        loop.line.close_in_child()
        loop.line.close()
        os._exit(1 if any(_is_open(fd) for fd in mine) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "control").exists()
    assert client.asks({"id": 1, "request": "ping"}) == [{"id": 1, "result": {}}]
    assert connected(loop, crowd, 1)[0].hears()


@forks
@pytest.mark.parametrize("end", ["a line too long", "close"])
def test_eof_does_not_wait_for_a_child_that_has_copies(serve: Serve, crowd: ExitStack, end: str) -> None:
    loop = serve()
    (client,) = connected(loop, crowd, 1)
    client.hears()
    reads, writes = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(writes)
        os.read(reads, 1)  # until the parent closes its end
        os._exit(0)
    os.close(reads)
    if end == "close":
        loop.line.close()
    else:
        client.asks(b"x" * 70_000)
    client.hears()
    assert client.has_ended()
    os.close(writes)
    os.waitpid(pid, 0)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# --- other accounts


def _stranger(loop: ControlLoop, groups: list[int], *requests: dict[str, Any]) -> list[Any]:
    """Let another account connect, send requests and read to the end; return what it heard."""
    reads, writes = os.pipe()
    connected_end, tell = os.pipe()
    address = loop.line.address.sock.getsockname()
    if (pid := os.fork()) == 0:
        code = 1
        try:
            become(NOBODY, groups)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(address)
                sock.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
                sock.shutdown(socket.SHUT_WR)
                os.close(tell)
                os.close(reads)
                while data := sock.recv(65536):
                    os.write(writes, data)
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    os.close(tell)
    _wait(connected_end)
    loop.settle()
    heard = b""
    while _wait(reads) and (data := os.read(reads, 65536)):
        heard += data
    os.close(reads)
    os.close(connected_end)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return [json.loads(line) for line in heard.splitlines()]


def _wait(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(DEADLINE * 1000), "nothing came"
    return True


@is_root
@forks
def test_another_account_is_refused_and_logged_once(loop: ControlLoop, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        (answer,) = _stranger(loop, [OPERATORS], {"id": 1, "request": "stop"})
        assert answer["error"]["code"] == "refused"
    assert loop.requests == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"refused uid {NOBODY}" in caplog.text


@is_root
@forks
@pytest.mark.parametrize("groups", [[OPERATORS], [1, 2, OPERATORS, 7]])
def test_the_control_group_may_look_and_no_more(serve: Serve, groups: list[int]) -> None:
    loop = serve(group=ControlGroup(OPERATORS))
    names = ("ping", "status", "stacks", "subscribe", "reload", "stop")
    loop_answers = _stranger_who_leaves(loop, groups, names)
    assert {answer["id"] for answer in loop_answers if "result" in answer} == {"ping", "status", "stacks"}
    assert [(answer["id"], answer["error"]["code"]) for answer in loop_answers if "error" in answer] == [
        ("reload", "refused"),
        ("stop", "refused"),
    ]


def _stranger_who_leaves(loop: ControlLoop, groups: list[int], names: tuple[str, ...]) -> list[Any]:
    requests = [{"id": name, "request": name} for name in names if name != "subscribe"]  # that one would not end
    return _stranger(loop, groups, *requests)[1:]


@is_root
@forks
def test_the_account_of_the_supervisor_may_do_everything(serve: Serve) -> None:
    loop = serve(owner=NOBODY)
    heard = _stranger(loop, [], {"id": 1, "request": "reload"})
    assert heard[1] == {"id": 1, "result": {"request": "reload"}}


@is_root
@forks
def test_other_groups_may_not_look(serve: Serve) -> None:
    loop = serve(group=ControlGroup(OPERATORS, frozenset((NOBODY,))))
    (answer,) = _stranger(loop, [OPERATORS + 1], {"id": 1, "request": "ping"})
    assert answer["error"]["code"] == "refused"


@is_root
@forks
@pytest.mark.parametrize(("members", "expected"), [({NOBODY}, "result"), (set(), "error")])
def test_the_group_database_decides_about_an_account_in_too_many_groups_to_ask_for(
    serve: Serve, members: set[int], expected: str
) -> None:
    loop = serve(group=ControlGroup(OPERATORS, frozenset(members)))
    heard = _stranger(loop, list(range(10_000, 10_300)), {"id": 1, "request": "ping"})
    assert expected in heard[-1]


@is_root
@forks
def test_beside_lookers_there_is_a_place_for_the_own_account(serve: Serve, crowd: ExitStack) -> None:
    loop = serve(group=ControlGroup(OPERATORS))
    tell, told = os.pipe()
    held, hold = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(hold)
        become(NOBODY, [OPERATORS])
        kept = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(MOST_CLIENTS)]
        for sock in kept:
            sock.connect(loop.line.address.sock.getsockname())
        os.close(told)
        os.read(held, 1)
        os._exit(0)
    os.close(told)
    _wait(tell)
    loop.settle()
    assert loop.line.clients == MOST_LOOKERS
    (mine,) = connected(loop, crowd, 1)
    assert mine.hears()[0]["protocol"] == 1
    for fd in (hold, held, tell):
        os.close(fd)
    os.waitpid(pid, 0)
    loop.settle()
    assert loop.line.clients == 1
