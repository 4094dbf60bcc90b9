"""A supervisor hands its listening sockets to the next one: what both see, and what clients see, at each end of it.

The old side is this process, the new one a program that goes step by step (`support.successor`).
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import json
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import successor as program
from support.leaks import Census

from hybrid.supervisor.contact.pidfile import Pidfile
from hybrid.supervisor.listeners.estate import Estate
from hybrid.supervisor.listeners.sockets import BindError, FdBind, Listeners, open_listeners, parse_bind
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.upgrade import handover, inheritance
from hybrid.supervisor.upgrade.handover import CannotInherit, CannotOffer, Failed, Inheritance, Invocation, Offer

DEADLINE = 20.0  # seconds
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LOCAL = "127.0.0.1:0"


class Play:
    """An offer, and the program that it has started."""

    def __init__(self, offer: Offer, stage: socket.socket) -> None:
        self.offer = offer
        self._stage = stage
        self._heard: collections.deque[str | Failed] = collections.deque()  # news of the offer, without `pending`
        self._has_been_reaped = False

    def asks(self, do: str, **arguments: Any) -> Any:
        """Have the program take a step, answer it meanwhile as a supervisor does, and return what came out."""
        self._stage.send(json.dumps({"do": do, **arguments}).encode())
        while self._stage.fileno() not in self._wait(self._stage.fileno(), self.offer.fileno()):
            pass
        return json.loads(self._stage.recv(1_000_000))

    def hears(self) -> str | Failed:
        """Return the next thing that the offer says, or has said, that is not `pending`."""
        while not self._heard:
            self._wait(self.offer.fileno())
        return self._heard.popleft()

    @property
    def has_heard(self) -> bool:
        """True if the offer has unread news."""
        return bool(self._heard)

    def _wait(self, *fds: int) -> set[int]:
        """Wait for one of these, and let the offer work if it is among them."""
        poll = select.poll()
        for fd in fds:
            if fd != -1:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(DEADLINE * 1000)}
        assert ready, "nothing happened"
        if self.offer.fileno() in ready and (news := self.offer.poll_nowait()) != "pending":
            self._heard.append(news)
        return ready

    def serves(self, *binds: str, workers: int = 2, **fields: Any) -> None:
        """Go all the way: the program opens its listeners, serves, and takes over."""
        self.asks("take")
        opened = self.asks("open", binds=binds, workers=workers, **fields)
        assert "error" not in opened, opened
        self.asks("serving")
        assert self.asks("wait_news") == {"news": "ours"}
        assert self.asks("take_over")["remarks"] == []
        assert self.hears() == "serving"

    def dies(self) -> None:
        """Kill the program and wait for its end."""
        os.kill(self.offer.pid, signal.SIGKILL)
        self.reap()

    def reap(self) -> int:
        """Wait for the program's end; return its exit code."""
        self._stage.close()
        self._has_been_reaped = True
        return os.waitstatus_to_exitcode(os.waitpid(self.offer.pid, 0)[1])

    def abandons(self) -> None:
        """End the program, and leave it to others to wait for it."""
        self._has_been_reaped = True
        self.close()

    def close(self) -> None:
        """End the program."""
        self._stage.close()
        self.offer.close()
        if not self._has_been_reaped:
            self.reap()


Begin = Callable[..., Play]
Open = Callable[..., Listeners]


@pytest.fixture(autouse=True)
def _successors_are_children() -> Iterator[None]:
    """Be the parent of successors, which are orphans, so that the test can wait for them."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open the listeners of the old supervisor; they are closed at the end."""
    made: list[Listeners] = []

    def begin(*binds: str, workers: int = 2, **fields: object) -> Listeners:
        given = {"balance": "off", **fields}  # sockets of addresses only
        settings = Settings(binds=tuple(map(parse_bind, binds)), workers=workers, **given)  # type: ignore[arg-type]
        made.append(open_listeners(settings))
        return made[-1]

    yield begin
    for listeners in made:
        listeners.close()


@pytest.fixture
def invocation(tmp_path: Path) -> Invocation:
    """How the program of the new side is started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HYBRID_")}
    environment["PYTHONPATH"] = str(Path(program.__file__).parents[1])
    return Invocation(sys.executable, ("-P", program.__file__, "an argument"), str(tmp_path), environment)


@pytest.fixture
def begin(tmp_path: Path, invocation: Invocation) -> Iterator[Begin]:
    """Offer listeners to the program, and wait until it waits for its first step; it ends at the end."""
    played: list[Play] = []

    def start(listeners: Listeners, **extra: str) -> Play:
        path = f"{tmp_path}/stage.{len(played)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(path)
            door.listen()
            door.settimeout(DEADLINE)
            offer = Offer.begin(estate_of(listeners), invocation, {"STAGE": path, **extra})
            stage, _ = door.accept()
        played.append(Play(offer, stage))
        return played[-1]

    yield start
    for play in played:
        play.close()


def estate_of(listeners: Listeners) -> Estate:
    """Return the sockets as those of the only service."""
    estate = Estate()
    estate.enter("web", listeners)
    return estate


def port_of(listeners: Listeners) -> int:
    return int(listeners.all()[0].sock.getsockname()[1])


def connect(port: int, times: int = 1) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) for _ in range(times)]


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def queued(listeners: Listeners) -> dict[int | None, int]:
    """Accept everything that waits here; slot -> how much."""
    counts: dict[int | None, int] = {}
    for listener in listeners.all():
        counts[listener.slot] = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.sock.accept()[0].close()
                counts[listener.slot] += 1
    return counts


def spread(listeners: Listeners, times: int = 60) -> dict[int | None, int]:
    """Connect many times; slot -> how many went there."""
    clients = connect(port_of(listeners), times)
    counts = queued(listeners)
    close_all(clients)
    return counts


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


# --- how the program is started


def test_the_program_is_executed_unchanged_with_additional_variables(
    opened: Open, begin: Begin, invocation: Invocation
) -> None:
    facts = begin(opened(LOCAL), EXTRA="more").asks("facts")
    assert facts["arguments"] == ["an argument"]
    assert facts["directory"] == os.path.realpath(invocation.directory)
    assert facts["environment"]["EXTRA"] == "more"
    assert facts["environment"]["PYTHONPATH"] == invocation.environment["PYTHONPATH"]


def test_it_stays_in_the_process_group_that_a_terminal_knows(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    facts = play.asks("facts")
    assert (facts["pid"], facts["group"]) == (play.offer.pid, os.getpgrp())


def test_inherited_addresses_are_known_before_they_are_taken(opened: Open, begin: Begin) -> None:
    assert begin(opened(LOCAL, "unix:@hybrid-test-known")).asks("facts")["binds"] == [LOCAL, "unix:@hybrid-test-known"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"executable": "/nowhere/python"}, "cannot execute /nowhere/python: no such file or directory"),
        ({"executable": "/etc/passwd"}, "cannot execute /etc/passwd: permission denied"),
        (
            {"directory": "/nowhere"},
            "cannot enter the directory that this program was started in, /nowhere: no such file",
        ),
        ({"executable": ""}, "interpreter is not known"),
    ],
)
def test_a_program_that_cannot_be_executed_leaves_nothing_behind(
    opened: Open, invocation: Invocation, change: dict[str, str], says: str
) -> None:
    listeners = opened(LOCAL)
    census = Census()
    with pytest.raises(CannotOffer, match=says):
        Offer.begin(listeners, dataclasses.replace(invocation, **change), {})
    assert census.newcomers() == []
    assert sum(spread(listeners).values()) == 60


def test_pid_1_cannot_upgrade_and_suggests_an_alternative(
    opened: Open, invocation: Invocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(CannotOffer, match="replace the container"):
        Offer.begin(estate_of(opened(LOCAL)), invocation, {})


# --- it goes well


@pytest.mark.parametrize("bind", [LOCAL, "[::1]:0", "[::]:0", "udp://127.0.0.1:0", "unix:@hybrid-test-handover"])
def test_the_successor_has_the_same_sockets_by_slot(opened: Open, begin: Begin, bind: str) -> None:
    listeners = opened(bind)
    play = begin(listeners)
    assert play.asks("take") == {"inherits": True, "binds": [bind], "variable": False}
    found = play.asks("open", binds=[bind], workers=2)
    assert found["addresses"] == list(listeners.addresses)
    assert found["listeners"] == [[listener.address, listener.slot] for listener in listeners.all()]


def test_addresses_that_were_given_twice_are_two(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL, LOCAL)
    play = begin(listeners)
    play.asks("take")
    assert play.asks("open", binds=[LOCAL, LOCAL], workers=2)["addresses"] == list(listeners.addresses)


def test_connections_that_waited_before_and_came_meanwhile_are_answered_by_the_successor(
    opened: Open, begin: Begin
) -> None:
    listeners = opened(LOCAL)
    port = port_of(listeners)
    clients = connect(port, 10)
    play = begin(listeners)
    clients += connect(port, 10)
    play.serves(LOCAL)
    clients += connect(port, 10)
    listeners.leave()
    clients += connect(port, 10)
    play.offer.close()
    assert sum(play.asks("answer").values()) == 40
    for client in clients:
        assert client.recv(100) == b"successor"
        client.close()


def test_leaving_closes_descriptors_and_neither_holds_nor_refuses(opened: Open, begin: Begin) -> None:
    census = Census()
    listeners = opened(LOCAL, "udp://127.0.0.1:0")
    port = port_of(listeners)
    play = begin(listeners)
    play.serves(LOCAL, "udp://127.0.0.1:0")
    listeners.hold()
    listeners.refuse()
    listeners.leave()
    listeners.close()
    (client,) = connect(port)
    assert sum(play.asks("answer").values()) == 1
    client.close()
    play.close()
    assert census.newcomers() == []


def test_addresses_that_the_successor_does_not_serve_end_as_at_a_stop(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL, LOCAL)
    dropped = listeners.all()[2].sock.getsockname()[1]
    play = begin(listeners)
    play.serves(LOCAL)
    listeners.leave()
    assert [listener.slot for listener in listeners.all()] == [0, 1]
    listeners.refuse()
    assert refuses(dropped)


def test_a_new_address_of_the_successor_is_opened_by_it(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    play.serves(LOCAL, "unix:@hybrid-test-new-address")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0hybrid-test-new-address")


def test_only_the_word_taken_ends_it(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    assert play.asks("news_nowait") == {"news": "pending"}
    play.asks("serving")
    assert play.asks("wait_news") == {"news": "ours"}
    assert not play.has_heard
    play.asks("take_over")
    assert play.hears() == "serving"


def test_the_successor_hears_when_the_old_one_has_noted_it(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    play.serves(LOCAL)
    play.offer.close()
    assert play.asks("wait_news") == {"news": "released"}


@dataclasses.dataclass
class Bequest:
    """The inheritance of a predecessor, created by hand in this process."""

    inheritance: Inheritance
    predecessor: socket.socket
    """Its end of the link."""


@pytest.fixture
def inherit() -> Iterator[Callable[[Listeners], Bequest]]:
    """Hand copies of listeners to this very process."""
    made: list[Bequest] = []

    def give(listeners: Listeners) -> Bequest:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        entries = [dataclasses.asdict(entry) for entry in listeners.offer()]
        for entry in entries:
            entry["fds"] = [os.dup(fd) for fd in entry["fds"]]
        memfd = os.memfd_create("hybrid-handover")
        text = json.dumps({"form": 1, "predecessor": 7, "line": ours.detach(), "entries": entries})
        os.write(memfd, text.encode())
        inheritance = Inheritance.take({"HYBRID_HANDOVER": str(memfd)})
        assert inheritance is not None
        made.append(Bequest(inheritance, theirs))
        return made[-1]

    yield give
    for bequest in made:
        bequest.inheritance.close()
        bequest.predecessor.close()


def test_a_successor_is_replaced_in_its_turn(
    opened: Open, begin: Begin, inherit: Callable[[Listeners], Bequest]
) -> None:
    first = opened(LOCAL, "udp://127.0.0.1:0")
    settings = Settings(binds=(parse_bind(LOCAL), parse_bind("udp://127.0.0.1:0")), workers=3, balance="off")
    first.grow(3)
    with open_listeners(settings, inherit(first).inheritance.share("web", settings.binds)) as second:
        assert second.take_over() == ()
        first.lend((0, 1))
        first.leave()
        second.steer((1,))
        play = begin(second)
        play.serves(LOCAL, "udp://127.0.0.1:0", workers=3)
        second.leave()
    (client,) = connect(int(play.asks("count")["listeners"][0][0].rpartition(":")[2]))
    assert sum(play.asks("answer").values()) == 1
    client.close()


# --- steering


def test_the_old_one_steers_until_the_successor_has_taken_over(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    listeners.steer((1,))
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    play.asks("steer", slots=[0])
    assert spread(listeners) == {0: 0, 1: 60}
    play.asks("serving")
    play.asks("wait_news")
    listeners.steer((1,))
    assert spread(listeners) == {0: 0, 1: 60}
    play.asks("take_over")
    assert spread(listeners) == {0: 60, 1: 0}
    listeners.steer((1,))
    assert spread(listeners) == {0: 60, 1: 0}


def test_a_program_that_the_old_one_has_left_is_removed_where_all_are_wanted(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    listeners.steer((1,))
    begin(listeners).serves(LOCAL)
    assert all(spread(listeners).values())


def test_with_more_workers_the_new_slots_get_nothing_until_the_successor_steers_there(
    opened: Open, begin: Begin
) -> None:
    listeners = opened(LOCAL, "udp://127.0.0.1:0", "unix:@hybrid-test-more")
    play = begin(listeners)
    play.asks("take")
    found = play.asks("open", binds=[LOCAL, "udp://127.0.0.1:0", "unix:@hybrid-test-more"], workers=4)
    assert [slot for _, slot in found["listeners"]] == [0, 1, 2, 3, 0, 1, 2, 3, None]
    assert listeners.slots == 2
    counts = spread_of_streams(listeners)
    assert counts[0] + counts[1] == 60
    play.asks("steer", slots=[0, 1, 2, 3])
    play.asks("serving")
    play.asks("wait_news")
    play.asks("take_over")
    counts = spread_of_streams(listeners, 200)
    assert all(counts[slot] for slot in range(4))


def spread_of_streams(listeners: Listeners, times: int = 60) -> dict[int, int]:
    clients = connect(port_of(listeners), times)
    counts: dict[int, int] = {}
    for listener in listeners.all():
        if listener.sock.family == socket.AF_INET and listener.sock.type == socket.SOCK_STREAM:
            assert listener.slot is not None
            counts[listener.slot] = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.sock.accept()[0].close()
                    counts[listener.slot] += 1
    close_all(clients)
    return counts


def test_with_fewer_workers_all_sockets_stay_open_and_the_successor_knows_them(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL, workers=3)
    clients = connect(port_of(listeners), 30)
    play = begin(listeners)
    play.asks("take")
    found = play.asks("open", binds=[LOCAL], workers=1)
    assert found["slots"] == 3
    play.asks("steer", slots=[0])
    play.asks("serving")
    play.asks("wait_news")
    play.asks("take_over")
    assert queued(listeners).keys() == {0, 1, 2}
    assert spread(listeners) == {0: 60, 1: 0, 2: 0}
    close_all(clients)


def test_sockets_that_the_old_one_opens_meanwhile_are_handed_on_at_the_end(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    listeners.grow(3)
    play.asks("serving")
    play.asks("wait_news")
    taken = play.asks("take_over")
    assert ([slot for _, slot in taken["listeners"]], taken["slots"]) == ([0, 1, 2], 3)


def test_the_successor_opens_no_member_while_the_group_is_not_its_own(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    assert "still belong to the supervisor that this one replaces" in play.asks("grow", slots=3)["error"]
    play.asks("serving")
    play.asks("wait_news")
    play.asks("take_over")
    assert len(play.asks("grow", slots=3)["listeners"]) == 3


# --- it fails


def test_a_successor_that_dies_has_failed_and_nothing_has_changed(opened: Open, begin: Begin, tmp_path: Path) -> None:
    listeners = opened(LOCAL, f"unix:{tmp_path}/a.sock")
    listeners.steer((1,))
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL, f"unix:{tmp_path}/a.sock"], workers=3)
    play.asks("steer", slots=[0])
    play.dies()
    assert isinstance(play.hears(), Failed)
    assert play.offer.fileno() == -1
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/a.sock")
        clients = connect(port_of(listeners), 40)
        counts = [len(accept_all(listener.sock)) for listener in listeners.all()]
    assert counts == [0, 40, 0, 1]
    close_all(clients)


def accept_all(sock: socket.socket) -> list[None]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.accept()[0].close())
    return found


def test_a_successor_that_stops_in_good_order_before_it_serves_changes_nothing_either(
    opened: Open, begin: Begin, tmp_path: Path
) -> None:
    listeners = opened(LOCAL, f"unix:{tmp_path}/a.sock")
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL, f"unix:{tmp_path}/a.sock"], workers=2)
    play.asks("hold_and_refuse")
    play.asks("close")
    assert isinstance(play.hears(), Failed)
    assert (tmp_path / "a.sock").exists()
    clients = connect(port_of(listeners), 60)
    close_all(clients)


def test_a_successor_that_dies_while_it_takes_over_gives_everything_back(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    listeners.steer((1,))
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    play.asks("serving")
    play.asks("wait_news")
    play.dies()
    assert isinstance(play.hears(), Failed)
    assert spread(listeners) == {0: 0, 1: 60}
    listeners.refuse()
    assert refuses(port_of(listeners))


def test_after_a_failure_with_more_workers_the_next_one_finds_indexes_that_are_slots(
    opened: Open, begin: Begin
) -> None:
    listeners = opened(LOCAL)
    first = begin(listeners)
    first.asks("take")
    first.asks("open", binds=[LOCAL], workers=4)
    first.dies()
    assert isinstance(first.hears(), Failed)
    counts = spread(listeners)
    assert counts[0] + counts[1] == 60
    second = begin(listeners)
    second.serves(LOCAL, workers=3)
    listeners.leave()
    clients = connect(port := int(second.asks("count")["listeners"][0][0].rpartition(":")[2]), 0)
    for slot in range(3):
        second.asks("steer", slots=[slot])
        clients += connect(port, 5)
        assert list(second.asks("answer").values()) == [5 * (n == slot) for n in range(4)]
    close_all(clients)


def test_a_successor_learns_why_further_sockets_cannot_be_opened(
    opened: Open, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "MAX_WORKERS", 3)
    play = begin(opened(LOCAL))
    play.asks("take")
    found = play.asks("open", binds=[LOCAL], workers=4)
    assert found == {"error": "cannot have the sockets of 4 workers: 4 workers are not between 1 and 3"}


def test_a_predecessor_that_cannot_keep_connections_from_further_sockets_refuses_them(opened: Open) -> None:
    listeners = opened(LOCAL)
    listeners.all()[0].sock.close()  # so that the kernel takes no program
    with pytest.raises(BindError, match="the kernel refuses to steer"):
        listeners.reserve(3)
    assert len(listeners.all()) == 2


def test_a_predecessor_that_does_not_answer_is_waited_for_until_a_deadline(
    opened: Open, inherit: Callable[[Listeners], Bequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inheritance, "_PATIENCE", 0.05)
    bequest = inherit(opened(LOCAL))
    with pytest.raises(CannotInherit, match=r"of 3 workers: the other supervisor has not answered within 0.05 s"):
        bequest.inheritance.have_slots("web", 3)


def test_a_predecessor_that_is_gone_is_not_waited_for(opened: Open, inherit: Callable[[Listeners], Bequest]) -> None:
    bequest = inherit(opened(LOCAL))
    bequest.predecessor.close()
    with pytest.raises(CannotInherit, match=r"of 3 workers: .*other supervisor"):
        bequest.inheritance.have_slots("web", 3)
    bequest.inheritance.serving()
    bequest.inheritance.taken()
    assert bequest.inheritance.poll_nowait() == "withdrawn"


def test_a_program_that_ends_at_once_has_failed(opened: Open, invocation: Invocation) -> None:
    program = dataclasses.replace(invocation, arguments=("-c", "raise SystemExit(3)"))
    offer = Offer.begin(estate_of(opened(LOCAL)), program, {})
    poll = select.poll()
    poll.register(offer.fileno(), select.POLLIN)
    assert poll.poll(DEADLINE * 1000)
    assert offer.poll_nowait() == Failed("the other supervisor is gone")
    assert os.waitstatus_to_exitcode(os.waitpid(offer.pid, 0)[1]) == 3


def test_a_silent_program_is_pending_until_it_is_given_up(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    assert play.offer.poll_nowait() == "pending"
    assert play.offer.withdraw()
    play.dies()


def test_a_successor_that_talks_nonsense_has_failed(opened: Open) -> None:
    listeners = opened(LOCAL)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        offer = Offer(listeners, 0, handover.PeerLink(ours))
        theirs.send(b'{"type": "Yours"}')
        assert offer.poll_nowait() == Failed("the other supervisor sent Yours out of turn")
        assert theirs.recv(100) == b""


@pytest.mark.parametrize(
    "datagram", [b"x", b"[]", b'{"type": "Want", "slots": "2"}', b'{"type": "Hello"}', b"[" * 9000]
)
def test_an_unknown_message_fails_too(opened: Open, datagram: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        offer = Offer(opened(LOCAL), 0, handover.PeerLink(ours))
        theirs.send(datagram)
        found = offer.poll_nowait()
    assert isinstance(found, Failed)
    assert "this version does not know" in found.reason


# --- the old one is being stopped


def test_a_successor_that_does_not_serve_yet_hears_that_it_is_not_wanted(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    assert play.offer.withdraw()
    assert play.asks("news_nowait") == {"news": "withdrawn"}


def test_a_successor_that_serves_too_late_is_withdrawn(opened: Open, begin: Begin) -> None:
    """The message was sent but not read: without an answer, the successor does not own the sockets."""
    listeners = opened(LOCAL)
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    assert play.offer.withdraw()
    play.asks("serving")
    assert play.asks("wait_news") == {"news": "withdrawn"}
    listeners.refuse()
    assert refuses(port_of(listeners))


def test_withdrawing_reaches_the_successor_though_a_child_holds_the_line(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    play.asks("take")
    copy = os.dup(play.offer.fileno())
    assert play.offer.withdraw()
    assert play.asks("wait_news") == {"news": "withdrawn"}
    os.close(copy)


def test_a_child_that_closes_its_copy_of_the_line_withdraws_nothing(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL))
    pid = os.fork()
    if pid == 0:
        play.offer.close()
        os._exit(0)
    os.waitpid(pid, 0)
    play.serves(LOCAL)


def test_one_that_has_taken_over_is_independent(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    port = port_of(listeners)
    play = begin(listeners)
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2)
    play.asks("serving")
    play.asks("wait_news")
    assert not play.offer.withdraw()
    listeners.hold()
    listeners.refuse()
    listeners.leave()
    play.offer.close()
    assert play.asks("wait_news") == {"news": "released"}
    (client,) = connect(port)
    assert sum(play.asks("answer").values()) == 1
    client.close()


# --- files


def test_the_file_of_a_unix_socket_stays_and_is_removed_by_the_successor(
    opened: Open, begin: Begin, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    listeners = opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        play = begin(listeners)
        play.serves(f"unix:{path}")
        listeners.leave()
        listeners.close()
        assert path.exists()
        play.asks("answer")
        assert client.recv(100) == b"successor"
    play.asks("close")
    assert not path.exists()


def test_the_file_gets_the_mode_that_the_successor_was_told(opened: Open, begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    play = begin(opened(f"unix:{path}", unix_mode=0o666))
    play.asks("take")
    play.asks("open", binds=[f"unix:{path}"], workers=2, unix_mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    play.asks("serving")
    play.asks("wait_news")
    play.asks("take_over")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_file_gets_the_owner_that_the_successor_was_told(opened: Open, begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    begin(opened(f"unix:{path}")).serves(f"unix:{path}", uid=65534, gid=65533)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_a_removed_socket_file_is_created_again(opened: Open, begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listeners = opened(f"unix:{path}")
    path.unlink()
    play = begin(listeners)
    play.serves(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listeners.leave()
        listeners.close()
        play.asks("answer")
        assert client.recv(100) == b"successor"


def test_the_pidfile_follows(opened: Open, begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "service.pid"
    pidfile = Pidfile(path)
    play = begin(opened(LOCAL))
    play.asks("take")
    assert "error" not in play.asks("open", binds=[LOCAL], workers=2, pidfile=str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    play.asks("serving")
    play.asks("wait_news")
    play.asks("take_over")
    assert path.read_text() == f"{play.offer.pid}\n"
    pidfile.release()
    assert path.exists()
    play.asks("close")
    assert not path.exists()


def test_the_pidfile_stays_where_the_successor_fails(opened: Open, begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "service.pid"
    Pidfile(path)
    play = begin(opened(LOCAL))
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=2, pidfile=str(path))
    play.asks("close")
    assert path.read_text() == f"{os.getpid()}\n"


# --- passed sockets


@pytest.fixture
def passed() -> Iterator[Callable[[int], list[FdBind]]]:
    """Listening sockets of one address, as systemd passes them with ReusePort=yes."""
    sockets: list[socket.socket] = []

    def make(count: int) -> list[FdBind]:
        port = 0
        for _ in range(count):
            sock = socket.socket()
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", port))
            sock.listen()
            port = sock.getsockname()[1]
        return [FdBind(os.dup(sock.fileno())) for sock in sockets[-count:]]

    yield make
    close_all(sockets)


def test_passed_sockets_keep_their_numbers_and_their_slots(
    opened: Open, begin: Begin, passed: Callable[[int], list[FdBind]]
) -> None:
    binds = [str(bind) for bind in passed(2)]
    listeners = opened(*binds, workers=3)
    play = begin(listeners)
    assert play.asks("take")["binds"] == binds
    found = play.asks("open", binds=binds, workers=4)
    assert found["addresses"] == list(listeners.addresses)
    assert [slot for _, slot in found["listeners"]] == [0, 1, 2, 3]
    play.asks("steer", slots=[0, 1, 2, 3])
    play.asks("serving")
    play.asks("wait_news")
    assert play.asks("take_over")["remarks"] == []
    assert play.hears() == "serving"
    listeners.leave()
    (client,) = connect(int(listeners.addresses[0].rpartition(":")[2]))
    assert sum(play.asks("answer").values()) == 1
    client.close()


# --- descriptors


def test_no_program_of_a_worker_gets_the_sockets_or_the_line(opened: Open, begin: Begin) -> None:
    play = begin(opened(LOCAL, "unix:@hybrid-test-descriptors"))
    play.asks("take")
    play.asks("open", binds=[LOCAL], workers=3)
    assert sorted(play.asks("descriptors_of_a_program")) == ["0", "1", "2", "3"]


def test_nothing_is_left_open_here_after_a_success_and_a_failure(opened: Open, begin: Begin) -> None:
    listeners = opened(LOCAL)
    census = Census()
    for _ in range(3):
        play = begin(listeners)
        play.asks("take")
        play.asks("open", binds=[LOCAL], workers=2)
        play.dies()
        assert isinstance(play.hears(), Failed)
        assert census.newcomers() == []
    play = begin(listeners)
    play.serves(LOCAL)
    listeners.leave()
    play.close()
    assert census.newcomers() == []


def test_the_successor_is_no_child_of_ours(opened: Open, begin: Begin) -> None:
    """Else systemd would kill it at the next stop instead of asking it to drain."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    play = begin(opened(LOCAL))
    parent = int(Path(f"/proc/{play.offer.pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    ended = os.pidfd_open(play.offer.pid)
    play.abandons()
    assert select.select([ended], [], [], DEADLINE)[0]
    os.close(ended)


@pytest.mark.parametrize("text", ["", "x", "-1", "99999", "1", "99999999999"])
def test_a_variable_that_is_left_over_does_nothing(text: str) -> None:
    environ = {"HYBRID_HANDOVER": text, "HOME": "/"}
    assert Inheritance.take(environ) is None
    assert environ == {"HOME": "/"}


def test_another_version_is_refused() -> None:
    fd = os.memfd_create("hybrid-handover")
    os.write(fd, json.dumps({"form": 0, "predecessor": 7}).encode())
    with pytest.raises(CannotInherit, match="is of another version: stop it, then start this one"):
        Inheritance.take({"HYBRID_HANDOVER": str(fd)})
    os.close(fd)


def test_sockets_that_got_lost_on_the_way_are_said_to_be() -> None:
    fd = os.memfd_create("hybrid-handover")
    entry = {"bind": LOCAL, "fds": [98765], "slots": 1, "inode": None}
    os.write(fd, json.dumps({"form": 1, "predecessor": 7, "line": 98766, "entries": [entry]}).encode())
    with pytest.raises(CannotInherit, match="got lost"):
        Inheritance.take({"HYBRID_HANDOVER": str(fd)})
