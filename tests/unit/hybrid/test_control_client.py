"""The client of the control socket, against a supervisor that answers from a script."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import Any

import pytest
from support.control_peer import HANG_UP, SHOP, ControlPeer, after, failure, result, silence

from hybrid.control.client import Client
from hybrid.control.errors import GoneError, LateError, OtherProtocolError, RefusedError, RequestError
from hybrid.control.messages import Event

DEADLINE = 20.0
NOW = 0.01  # seconds, of a deadline that is to pass


def connect(peer: ControlPeer) -> Client:
    return Client.connect(peer.address, DEADLINE)


def test_a_request_is_answered_with_its_result() -> None:
    with ControlPeer() as peer, connect(peer) as client:
        assert client.greeting.name == "shop"
        assert client.request("scale", DEADLINE, service=None, workers=2) == {"service": "web", "workers": 2}
        assert peer.asked == [{"id": 1, "request": "scale", "workers": 2}]


def test_a_path_is_an_address_too(tmp_path: Path) -> None:
    with ControlPeer(address=str(tmp_path / "s")) as peer, connect(peer) as client:
        assert client.request("ping", DEADLINE) == {}


def test_the_account_that_listens_is_known() -> None:
    with ControlPeer() as peer, connect(peer) as client:
        assert client.account() == os.geteuid()


def test_progress_is_told_in_its_order() -> None:
    told: list[dict[str, Any]] = []
    with ControlPeer() as peer, connect(peer) as client:
        client.wait(client.start("scale", workers=4), DEADLINE, told.append)
    assert told == [{"ready": 2, "of": 4}, {"ready": 3, "of": 4}]


def test_a_request_is_accepted_at_its_first_progress() -> None:
    with ControlPeer(reload=after({"ready": 0, "of": 2}, then=silence)) as peer, connect(peer) as client:
        client.wait_accepted(client.start("reload"), DEADLINE)


def test_a_failure_is_raised_with_code_and_reason() -> None:
    with ControlPeer(reload=failure("failed", "shop:app does not import")) as peer, connect(peer) as client:
        with pytest.raises(RequestError, match="does not import") as raised:
            client.request("reload", DEADLINE)
        assert raised.value.code == "failed"
        assert client.request("ping", DEADLINE) == {}


def test_the_answer_to_a_line_that_could_not_be_read_is_raised() -> None:
    odd = ControlPeer(ping=lambda _: [{"id": None, "error": {"code": "bad_request", "reason": "what?"}}])
    with odd as peer, connect(peer) as client, pytest.raises(RequestError, match="what"):
        client.request("ping", DEADLINE)


def test_answers_to_other_requests_and_unknown_messages_are_passed_over() -> None:
    def answer(request: dict[str, Any]) -> list[object]:
        return [{"id": 99, "result": {}}, {"newer": 1}, *result(right=True)(request)]

    with ControlPeer(ping=answer) as peer, connect(peer) as client:
        assert client.request("ping", DEADLINE) == {"right": True}


def test_requests_may_overlap() -> None:
    held: list[dict[str, Any]] = []

    def reversed_pair(request: dict[str, Any]) -> list[object]:
        held.append(request)
        return [{"id": one["id"], "result": {"of": one["id"]}} for one in reversed(held)] if len(held) == 2 else []

    with ControlPeer(ping=reversed_pair) as peer, connect(peer) as client:
        first, second = client.start("ping"), client.start("ping")
        assert client.wait(second, DEADLINE) == {"of": second}
        assert client.wait(first, DEADLINE) == {"of": first}


def test_no_answer_in_time_is_an_error() -> None:
    with ControlPeer(ping=silence) as peer, connect(peer) as client, pytest.raises(LateError, match="in time"):
        client.request("ping", NOW)


def test_no_greeting_in_time_is_an_error() -> None:
    with ControlPeer(greeting=None) as peer, pytest.raises(LateError):
        Client.connect(peer.address, NOW)


def test_a_full_queue_is_an_error_in_time() -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind("")  # the kernel chooses an abstract name
        listener.listen(0)
        address = "@" + listener.getsockname()[1:].decode()
        first.connect(listener.getsockname())
        with pytest.raises(LateError):
            Client.connect(address, NOW)


def test_a_supervisor_that_ends_is_gone() -> None:
    with ControlPeer(ping=lambda _: [HANG_UP]) as peer, connect(peer) as client:
        with pytest.raises(GoneError, match="closed the connection"):
            client.request("ping", DEADLINE)
        with pytest.raises(GoneError):
            client.request("ping", DEADLINE)


def test_the_end_behind_the_last_answer_does_not_hide_it() -> None:
    with ControlPeer() as peer, connect(peer) as client:
        assert client.request("stop", DEADLINE) == {"code": 0}


@pytest.mark.parametrize("address", ["@hybrid/nowhere/1.00", "/nowhere/control", "/etc/passwd", "/" + "x" * 200])
def test_an_address_where_nothing_listens_is_named_in_the_error(address: str) -> None:
    with pytest.raises(GoneError) as raised:
        Client.connect(address, DEADLINE)
    assert address in str(raised.value)


def test_a_refusal_is_raised() -> None:
    refusal = {"error": {"code": "refused", "reason": "uid 1000 may not ask"}}
    with ControlPeer(greeting=refusal) as peer, pytest.raises(RefusedError, match="uid 1000"):
        connect(peer)


def test_a_line_that_is_no_json_is_an_error() -> None:
    broken = ControlPeer(ping=lambda _: [b"Segmentation fault\n"])
    with broken as peer, connect(peer) as client, pytest.raises(OtherProtocolError):
        client.request("ping", DEADLINE)


def test_events_come_in_their_order_and_end_with_the_supervisor() -> None:
    events = [{"event": "ready", "pid": 1}, {"event": "death", "pid": 1}]
    subscribed = lambda request: [*result()(request), *events, HANG_UP]  # noqa: E731
    with ControlPeer(subscribe=subscribed) as peer, connect(peer) as client:
        client.request("subscribe", DEADLINE)
        coming = client.events()
        assert [next(coming), next(coming)] == events
        with pytest.raises(GoneError):
            next(coming)


def test_events_that_come_before_an_answer_are_kept() -> None:
    event = {"event": "ready", "pid": 1}
    with ControlPeer(ping=lambda request: [event, *result()(request)]) as peer, connect(peer) as client:
        client.request("ping", DEADLINE)
        assert next(client.events()) == event


def test_receiving_does_not_wait() -> None:
    with ControlPeer(SHOP) as peer, connect(peer) as client:
        assert client.receive_nowait() == []
        peer.tell({"event": "ready"})
        assert select.select([client], [], [], DEADLINE)[0]
        assert client.receive_nowait() == [Event({"event": "ready"})]


def test_a_status_of_a_thousand_workers_is_read_whole() -> None:
    rows = [{"slot": slot, "filler": "x" * 400} for slot in range(1000)]
    with ControlPeer(status=result(rows=rows)) as peer, connect(peer) as client:
        assert client.request("status", DEADLINE)["rows"] == rows
