"""The contract of `hybrid.workers.http.exchange`, clause by clause, over HTTP/1, HTTP/2 and messages in memory.

The test is the application's side: it holds the exchange, and a listener that notes what the wire tells it.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.echo import on_loop
from support.http import in_callback, until
from support.records import logged
from support.wires import ALL_WIRES, WIRES, Answer, Client, end_worker, stop_worker

from hybrid.workers.http.context import HttpContext
from hybrid.workers.http.exchange import (
    NO_BODY_CAME,
    ClientGoneError,
    Exchange,
    ResponseError,
    Served,
    Stage,
    Upgraded,
)
from hybrid.workers.http.head import from_bytes, status_of
from hybrid.workers.http.settings import HttpSettings

WAITING, SENDING, WHOLE = Stage
OK = status_of(200)
NONE = from_bytes([])
FIELDS = from_bytes([(b"X-Mine", b"yes")])
PIECE = b"x" * 40_000


class Listener:
    """The application's side of an exchange: records the calls of the wire."""

    owed = 0
    ended_by = None

    def __init__(self, exchange: Exchange, *, keeps_open: bool = True) -> None:
        exchange.listener = self
        self.exchange = exchange
        self.told: list[str] = []
        self.got = b""
        self._keeps_open = keeps_open

    def body_arrived(self) -> None:
        self.told.append("body")

    def resumed(self) -> None:
        self.told.append("resumed")
        self.exchange.wake_waiters()

    def disconnected(self) -> None:
        self.told.append("gone" if self.exchange.gone else "not gone")
        self.exchange.wake_waiters()

    def peer_done(self) -> bool:
        self.told.append("done")
        return self._keeps_open

    def draining(self) -> None:
        self.told.append("draining")

    def interrupt(self) -> None:
        self.told.append("interrupt")

    def expired(self) -> None:
        self.told.append("expired")

    def data_received(self, data: bytes) -> None:
        self.got += data


class Scene:
    """A client, and the application that it asks."""

    def __init__(self, wire: str, **options: Any) -> None:
        self.wire = wire
        self.listeners: list[Listener] = []
        self.keeps_open = True
        loop = asyncio.get_running_loop()
        self.context = HttpContext(loop, HttpSettings(), self._called, self._called)
        self.client: Client = ALL_WIRES[wire](self.context, **options)

    def _called(self, exchange: Exchange) -> None:
        assert exchange.listener is None, "it sets itself"
        self.listeners.append(Listener(exchange, keeps_open=self.keeps_open))

    @property
    def listener(self) -> Listener:
        return self.listeners[-1]

    @property
    def exchange(self) -> Exchange:
        return self.listener.exchange

    @property
    def answer(self) -> Answer:
        return self.client.answers[-1]

    @property
    def told(self) -> list[str]:
        return self.listener.told

    def answers(self, body: bytes = b"", *, status: int = 200, more: bool = False) -> None:
        """Start an answer without fields."""
        self.exchange.start(status_of(status), NONE, body, more)

    async def asked(self, *args: Any, **options: Any) -> Exchange:
        """Let the client ask; return the exchange that the application got."""
        await self.client.asks(*args, **options)
        return self.exchange


Scenario = Callable[[Scene], Awaitable[None]]


def on_wires(scenario: Scenario) -> Callable[[str], None]:
    """Make a test of a scenario: over each wire."""
    return _over(ALL_WIRES, scenario)


def on_wires_in_turn(scenario: Scenario) -> Callable[[str], None]:
    """Make a test of a scenario: over each wire on which one request is answered after the other."""
    return _over(WIRES, scenario)


def _over(wires: Iterable[str], scenario: Scenario) -> Callable[[str], None]:
    @pytest.mark.parametrize("wire", wires)
    @functools.wraps(scenario)
    def test(wire: str) -> None:
        async def main() -> None:
            scene = Scene(wire)
            await scenario(scene)
            if not scene.client.is_closed:
                await scene.client.leaves()
            await until(lambda: not scene.context.clock.watched, "the connection ends")

        on_loop(main)

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would take its parameter for a fixture
    return test


# --- the request


@on_wires
async def test_the_request_says_what_was_asked(scene: Scene) -> None:
    exchange = await scene.asked("PUT", b"/a%20b?c", (b"x-one", b"1"), (b"x-two", b"2"))
    request = exchange.request
    assert (request.method, request.target, request.sent_target) == ("PUT", b"/a%20b?c", b"/a%20b?c")
    assert request.version == ("2" if scene.wire == "http2" else "1.1")
    assert request.headers == [(b"host", b"a"), (b"x-one", b"1"), (b"x-two", b"2")]


@on_wires
async def test_the_peer_says_where_it_is(scene: Scene) -> None:
    peer = (await scene.asked()).connection
    assert (peer.client, peer.server, peer.scheme) == (("127.0.0.1", 4711), ("127.0.0.1", 80), "http")
    assert peer.get_extra_info("sockname") == ("127.0.0.1", 80)
    assert not peer.trusts_proxy


@on_wires
async def test_requests_of_a_connection_share_the_facts_that_an_interface_keeps(scene: Scene) -> None:
    exchange = await scene.asked()
    assert exchange.connection.facts is None
    exchange.connection.facts = facts = {"mine": 1}
    scene.answers()
    assert (await scene.asked()).connection.facts is facts


@on_wires_in_turn
async def test_keep_alive_says_that_the_client_would_go_on(scene: Scene) -> None:
    assert (await scene.asked()).keep_alive
    scene.answers()
    assert not (await scene.asked(closes=True)).keep_alive


@on_wires_in_turn
async def test_a_request_is_begun_when_the_one_before_is_answered(scene: Scene) -> None:
    await scene.client.asks(target=b"/1")
    await scene.client.asks(target=b"/2")
    assert [each.exchange.request.target for each in scene.listeners] == [b"/1"]
    scene.answers(b"first")
    await until(lambda: len(scene.listeners) == 2, "the second begins")
    scene.answers(b"second")
    assert [answer.body for answer in scene.client.answers] == [b"first", b"second"]


# --- the body of the request


@on_wires
async def test_a_request_without_a_body_is_complete_and_shares_the_body_of_all_such(scene: Scene) -> None:
    exchange = await scene.asked()
    assert exchange.complete
    assert exchange.body is NO_BODY_CAME
    assert exchange.buffered == 0


@on_wires
async def test_a_body_that_came_along_is_there_when_the_application_is_called(scene: Scene) -> None:
    exchange = await scene.asked("POST", body=b"whole")
    assert (exchange.complete, exchange.buffered, list(exchange.body)) == (True, 5, [b"whole"])
    assert scene.told == []


@on_wires
async def test_a_request_begins_before_its_body_has_come(scene: Scene) -> None:
    exchange = await scene.asked("POST", length=3)
    assert (exchange.complete, exchange.buffered) == (False, 0)
    assert exchange.body is not NO_BODY_CAME


@on_wires
async def test_the_listener_is_told_of_pieces_and_of_the_end(scene: Scene) -> None:
    exchange = await scene.asked("POST", more=True)
    await scene.client.sends(b"one")
    await scene.client.sends(b"two")
    assert (exchange.buffered, exchange.complete, scene.told) == (6, False, ["body"] * 2)
    await scene.client.ends_body()
    assert (exchange.complete, scene.told) == (True, ["body"] * 3)


@on_wires
async def test_a_body_of_known_length_is_complete_with_its_last_byte(scene: Scene) -> None:
    exchange = await scene.asked("POST", length=6)
    await scene.client.sends(b"one")
    assert not exchange.complete
    await scene.client.sends(b"two")
    assert exchange.complete


@on_wires
async def test_taking_the_body_gives_all_that_has_arrived_once(scene: Scene) -> None:
    exchange = await scene.asked("POST", more=True)
    await scene.client.sends(b"one")
    await scene.client.sends(b"two")
    assert exchange.take_body() == b"onetwo"
    assert (exchange.buffered, len(exchange.body)) == (0, 0)
    assert exchange.take_body() == b""


@on_wires
async def test_a_client_is_held_up_by_a_body_that_is_not_taken(scene: Scene) -> None:
    exchange = await scene.asked("POST", more=True)
    await scene.client.sends(PIECE)
    assert not scene.client.is_held_up
    await scene.client.sends(PIECE)
    assert scene.client.is_held_up
    exchange.take_body()
    await scene.client.settles()
    assert not scene.client.is_held_up


@on_wires
async def test_what_a_thread_takes_by_itself_lets_the_client_go_on_as_well(scene: Scene) -> None:
    exchange = await scene.asked("POST", more=True)
    for _ in range(2):
        await scene.client.sends(PIECE)
    await asyncio.to_thread(_take, exchange, len(PIECE))
    exchange.took(len(PIECE))
    await scene.client.settles()
    assert exchange.buffered == len(PIECE)
    assert not scene.client.is_held_up


def _take(exchange: Exchange, count: int) -> None:
    """Take so many bytes of the body, which may have come in several pieces."""
    while count > 0:
        count -= len(exchange.body.popleft())


@on_wires
async def test_a_client_that_waits_for_it_is_told_once_to_send_its_body(scene: Scene) -> None:
    exchange = await scene.asked("POST", length=3, expects=True)
    assert scene.client.answers == []
    exchange.ask_for_body()
    exchange.ask_for_body()
    assert scene.answer.informed == [(100, [])]


@on_wires
async def test_a_client_that_does_not_wait_is_told_nothing(scene: Scene) -> None:
    exchange = await scene.asked("POST", length=3)
    exchange.ask_for_body()
    assert scene.client.answers == []


@on_wires
async def test_a_client_that_has_its_answer_is_not_told_to_send_its_body(scene: Scene) -> None:
    exchange = await scene.asked("POST", length=3, expects=True)
    scene.answers(b"no", more=True)
    exchange.ask_for_body()
    assert scene.answer.informed == []


@on_wires
async def test_a_body_that_breaks_off_makes_the_client_gone_and_refused(scene: Scene) -> None:
    exchange = await scene.asked("POST", length=3)
    await scene.client.ends_stream()
    assert (exchange.gone, exchange.complete, scene.told) == (True, False, ["gone"])
    assert scene.answer.status == 400


# --- the answer


@on_wires
async def test_an_answer_may_be_whole_at_once(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, FIELDS, b"whole", False)
    answer = scene.answer
    assert (answer.status, answer.reason, answer.body, answer.length) == (200, "OK", b"whole", 5)
    assert answer.fields == [(b"x-mine", b"yes")]
    assert answer.is_whole


@on_wires
async def test_an_answer_may_come_in_pieces(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, FIELDS, b"one", True)
    assert (scene.answer.body, scene.answer.is_whole) == (b"one", False)
    exchange.write(b"two", True)
    exchange.write(b"", True)
    assert (scene.answer.body, scene.answer.is_whole) == (b"onetwo", False)
    exchange.write(b"end", False)
    assert (scene.answer.body, scene.answer.is_whole) == (b"onetwoend", True)


@on_wires
async def test_the_stage_follows_the_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    stages = [exchange.stage]
    exchange.start(OK, NONE, b"", True)
    stages.append(exchange.stage)
    exchange.write(b"", False)
    assert [*stages, exchange.stage] == [WAITING, SENDING, WHOLE]


@on_wires
async def test_the_bytes_of_the_body_are_counted(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, FIELDS, b"one", True)
    assert exchange.sent == 3
    exchange.write(b"more", False)
    assert exchange.sent == 7


@on_wires
async def test_a_large_first_piece_is_sent_whole(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, NONE, b"x" * 200_000, False)
    assert (len(scene.answer.body), exchange.sent, scene.answer.is_whole) == (200_000, 200_000, True)


@on_wires
async def test_a_second_head_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, NONE, b"one", True)
    with pytest.raises(ResponseError):
        exchange.start(OK, NONE, b"two", True)
    assert scene.answer.body == b"one"


@on_wires
async def test_a_piece_before_the_head_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    with pytest.raises(ResponseError):
        exchange.write(b"piece", True)
    assert scene.client.answers == []


@on_wires
async def test_a_piece_behind_the_end_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, NONE, b"whole", False)
    with pytest.raises(ResponseError):
        exchange.write(b"more", True)
    assert scene.answer.body == b"whole"


@pytest.mark.parametrize("body", [b"longer", b"less"])
@pytest.mark.parametrize("wire", ALL_WIRES)
def test_a_whole_answer_of_another_length_is_an_error_before_anything_is_sent(wire: str, body: bytes) -> None:
    async def main() -> None:
        scene = Scene(wire)
        exchange = await scene.asked()
        with pytest.raises(ResponseError, match="Content-Length"):
            exchange.start(OK, _length(5), body, False)
        assert scene.client.answers == []
        exchange.fail()
        assert (scene.answer.status, scene.answer.is_whole) == (500, True)

    on_loop(main)


def _length(count: int) -> Any:
    return from_bytes([(b"content-length", b"%d" % count)])


@on_wires
async def test_a_piece_that_is_more_than_was_promised_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, _length(5), b"four", True)
    with pytest.raises(ResponseError, match="longer than its Content-Length by 2 bytes"):
        exchange.write(b"...", False)
    assert (scene.answer.body, scene.answer.is_whole) == (b"four", False)


@on_wires
async def test_an_answer_that_ends_before_its_length_is_cut_and_logged(scene: Scene) -> None:
    exchange = await scene.asked(target=b"/short")
    exchange.start(OK, _length(5), b"two", True)
    await scene.client.settles()
    with logged() as lines:
        exchange.write(b"", False)
    assert exchange.stage is WHOLE
    assert not scene.answer.is_whole
    assert scene.client.is_cut
    assert lines == ["ERROR GET /short: the body is shorter than its Content-Length by 2 bytes"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("wire", ALL_WIRES)
def test_an_answer_without_a_body_has_none_whatever_is_given(wire: str, method: str, status: int) -> None:
    async def main() -> None:
        scene = Scene(wire)
        exchange = await scene.asked(method)
        scene.answers(b"dropped", status=status, more=True)
        for _ in range(3):
            exchange.write(b"dropped too", True)
        exchange.write(b"dropped as well", False)
        assert (scene.answer.status, scene.answer.body, scene.answer.is_whole) == (status, b"", True)
        assert (exchange.sent, exchange.stage) == (0, WHOLE)
        await scene.asked(method)
        assert len(scene.listeners) == 2, "the connection goes on"

    on_loop(main)


@on_wires
async def test_an_answer_to_head_tells_the_length_that_get_would_have(scene: Scene) -> None:
    exchange = await scene.asked("HEAD")
    exchange.start(OK, NONE, b"seven..", False)
    assert scene.answer.length == 7


@on_wires
async def test_an_empty_answer_to_head_tells_no_length(scene: Scene) -> None:
    exchange = await scene.asked("HEAD")
    exchange.start(OK, NONE, b"", False)
    assert scene.answer.length is None


@on_wires
async def test_the_length_of_a_bodiless_answer_is_not_held_against_its_body(scene: Scene) -> None:
    exchange = await scene.asked("HEAD")
    exchange.start(OK, _length(100), b"", False)
    assert (scene.answer.length, scene.answer.is_whole) == (100, True)


@on_wires_in_turn
async def test_a_connection_closes_behind_an_answer_to_a_client_that_wants_that(scene: Scene) -> None:
    await scene.asked(closes=True)
    scene.answers(b"bye")
    assert scene.answer.is_whole
    assert scene.client.is_closed


@on_wires
async def test_a_connection_closes_behind_an_answer_that_says_so(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, from_bytes([(b"connection", b"close")]), b"bye", False)
    await scene.client.settles()
    assert not exchange.keep_alive
    assert scene.answer.is_whole
    assert scene.client.is_closed


# --- informational answers, trailers


@on_wires
async def test_informational_answers_come_before_the_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    for _ in range(2):
        exchange.send_informational(status_of(103), from_bytes([(b"link", b"</a>")]))
    scene.answers(b"styled")
    assert scene.answer.informed == [(103, [(b"link", b"</a>")])] * 2


@on_wires
async def test_behind_the_head_nothing_informational_is_sent(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.answers(b"one", more=True)
    exchange.send_informational(status_of(103), NONE)
    exchange.write(b"two", False)
    assert (scene.answer.body, scene.answer.informed) == (b"onetwo", [])


@on_wires_in_turn
async def test_an_old_client_gets_nothing_informational(scene: Scene) -> None:
    exchange = await scene.asked(version="1.0")
    exchange.send_informational(status_of(103), NONE)
    scene.answers(b"old")
    assert (scene.answer.body, scene.answer.informed) == (b"old", [])


@on_wires
async def test_promised_trailers_end_the_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"body", False)
    assert (exchange.stage, scene.answer.body, scene.answer.is_whole) == (SENDING, b"body", False)
    exchange.send_trailers(from_bytes([(b"X-Sum", b"1")]))
    assert (exchange.stage, scene.answer.trailers, scene.answer.is_whole) == (WHOLE, [(b"x-sum", b"1")], True)


@on_wires
async def test_trailers_may_be_empty(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"body", False)
    exchange.send_trailers(NONE)
    assert (scene.answer.trailers, scene.answer.is_whole) == ([], True)


@on_wires
async def test_while_trailers_are_due_a_piece_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"body", False)
    with pytest.raises(ResponseError):
        exchange.write(b"more", True)
    assert scene.answer.body == b"body"


@on_wires
async def test_trailers_that_were_not_promised_are_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, NONE, b"body", True)
    with pytest.raises(ResponseError):
        exchange.send_trailers(NONE)


@on_wires
async def test_trailers_before_the_end_of_the_body_are_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"body", True)
    with pytest.raises(ResponseError):
        exchange.send_trailers(NONE)


@on_wires
async def test_an_answer_without_a_body_ends_without_its_trailers(scene: Scene) -> None:
    exchange = await scene.asked("HEAD")
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"body", False)
    assert (exchange.stage, scene.answer.is_whole) == (WHOLE, True)


# --- a response that has no end of its own


@on_wires
async def test_a_body_without_a_length_can_be_ended_from_the_servers_side(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, NONE, b"data", True)
    assert exchange.end_stream()
    assert (exchange.stage, scene.answer.body, scene.answer.is_whole) == (WHOLE, b"data", True)


@on_wires
async def test_a_stream_ends_without_the_trailers_that_were_announced(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"data", True)
    assert exchange.end_stream()
    assert (exchange.stage, scene.answer.trailers, scene.answer.is_whole) == (WHOLE, [], True)


@on_wires
async def test_a_stream_whose_trailers_are_due_ends_without_them(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"data", False)
    assert exchange.end_stream()
    assert (exchange.stage, scene.answer.trailers, scene.answer.is_whole) == (WHOLE, [], True)


@on_wires
async def test_a_body_with_a_length_ends_by_itself(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, from_bytes([(b"content-length", b"8")]), b"data", True)
    assert not exchange.end_stream()
    exchange.write(b"data", False)
    assert (scene.answer.body, scene.answer.is_whole) == (b"datadata", True)


@on_wires
async def test_a_response_that_has_not_begun_or_is_over_is_not_ended_again(scene: Scene) -> None:
    exchange = await scene.asked()
    assert not exchange.end_stream()
    exchange.start(OK, NONE, b"data", False)
    assert not exchange.end_stream()


# --- failing, leaving


@on_wires
async def test_an_application_that_fails_before_its_head_is_answered_with_500(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.fail()
    assert (scene.answer.status, scene.answer.body) == (500, b"Internal Server Error\n")
    assert (exchange.stage, scene.answer.is_whole) == (WHOLE, True)
    await scene.asked()
    assert len(scene.listeners) == 2, "the connection goes on"


@on_wires
async def test_an_application_that_fails_behind_its_head_cuts_its_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.start(OK, NONE, b"part", True)
    await scene.client.settles()
    exchange.fail()
    assert (exchange.stage, scene.answer.is_whole) == (WHOLE, False)
    assert scene.client.is_cut


@on_wires
async def test_an_application_that_fails_behind_its_answer_changes_nothing(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.answers(b"whole")
    exchange.fail()
    assert [(answer.status, answer.is_whole) for answer in scene.client.answers] == [(200, True)]
    assert not scene.client.is_closed


@on_wires
async def test_an_application_that_fails_with_its_trailers_promised_gives_a_whole_500(scene: Scene) -> None:
    exchange = await scene.asked()
    exchange.announce_trailers()
    exchange.fail()
    assert (scene.answer.status, scene.answer.is_whole) == (500, True)


@on_wires
async def test_an_application_that_fails_when_its_client_is_gone_sends_nothing(scene: Scene) -> None:
    exchange = await scene.asked()
    await scene.client.leaves()
    exchange.fail()
    assert scene.client.answers == []


@on_wires
async def test_an_application_that_gives_up_a_client_that_has_left_answers_nothing(scene: Scene) -> None:
    exchange = await scene.asked()
    await scene.client.ends_stream()
    exchange.leave()
    assert scene.client.answers == []
    assert scene.client.is_closed


@on_wires
async def test_an_application_that_gives_up_a_client_that_is_there_answers_500(scene: Scene) -> None:
    """It was told so because the worker stops."""
    exchange = await scene.asked()
    exchange.leave()
    assert scene.answer.status == 500


@on_wires
async def test_giving_up_behind_the_answer_changes_nothing(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.answers(b"whole")
    exchange.leave()
    assert [answer.status for answer in scene.client.answers] == [200]


# --- waiting


@on_wires
async def test_a_client_that_takes_too_little_holds_the_answer_until_it_takes_again(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.client.stops_taking()
    exchange.start(OK, NONE, PIECE, True)
    assert not exchange.is_held()
    exchange.write(PIECE, True)
    assert exchange.is_held()
    await scene.client.takes()
    assert not exchange.is_held()
    assert scene.told == ["resumed"]


@on_wires
async def test_a_client_that_has_left_holds_the_answer_before_that_is_told(scene: Scene) -> None:
    exchange = await scene.asked()
    leaving = asyncio.ensure_future(scene.client.leaves())
    await in_callback(lambda: None)
    assert exchange.is_held()
    await leaving


@on_wires
async def test_all_that_wait_for_news_are_woken(scene: Scene) -> None:
    exchange = await scene.asked()
    waiters = [exchange.news() for _ in range(3)]
    exchange.wake_waiters()
    assert all(waiter.done() for waiter in waiters)


@on_wires
async def test_a_wait_that_is_forgotten_is_not_woken(scene: Scene) -> None:
    exchange = await scene.asked()
    waiter, other = exchange.news(), exchange.news()
    exchange.forget(waiter)
    exchange.forget(waiter)
    exchange.wake_waiters()
    assert (waiter.done(), other.done()) == (False, True)


@on_wires
async def test_a_wait_that_was_cancelled_harms_no_other(scene: Scene) -> None:
    exchange = await scene.asked()
    waiter, other = exchange.news(), exchange.news()
    waiter.cancel()
    exchange.wake_waiters()
    assert (waiter.cancelled(), other.done()) == (True, True)


def _answer_in_pieces(exchange: Exchange) -> None:
    exchange.start(OK, NONE, b"", True)
    exchange.write(b"", False)


def _answer_with_trailers(exchange: Exchange) -> None:
    exchange.announce_trailers()
    exchange.start(OK, NONE, b"", False)
    exchange.send_trailers(NONE)


def _answer_too_little(exchange: Exchange) -> None:
    exchange.start(OK, _length(5), b"", True)
    with logged():
        exchange.write(b"", False)


ENDS: dict[str, Callable[[Exchange], object]] = {
    "an answer": lambda exchange: exchange.start(OK, NONE, b"", False),
    "an answer in pieces": _answer_in_pieces,
    "trailers": _answer_with_trailers,
    "too little": _answer_too_little,
    "a failure": lambda exchange: exchange.fail(),
    "giving up": lambda exchange: exchange.leave(),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("wire", ALL_WIRES)
def test_the_end_of_an_answer_is_news(wire: str, end: str) -> None:
    async def main() -> None:
        scene = Scene(wire)
        exchange = await scene.asked()
        waiter = exchange.news()
        ENDS[end](exchange)
        assert waiter.done()

    on_loop(main)


# --- what the listener is told


@on_wires
async def test_a_client_that_leaves_is_gone(scene: Scene) -> None:
    exchange = await scene.asked()
    await scene.client.leaves()
    assert (exchange.gone, scene.told) == (True, ["gone"])


@on_wires
async def test_a_client_that_leaves_behind_its_answer_is_no_news(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.answers(b"whole")
    await scene.client.leaves()
    assert (exchange.gone, scene.told) == (False, [])


@on_wires
async def test_a_client_that_ends_its_stream_still_gets_its_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    await scene.client.ends_stream()
    assert (exchange.gone, scene.told) == (False, ["done"])
    scene.answers(b"whole")
    assert (scene.answer.body, scene.answer.is_whole) == (b"whole", True)
    assert scene.client.is_closed


@on_wires
async def test_a_worker_that_stops_closes_behind_the_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    await stop_worker(scene.client)
    assert scene.told == ["draining"]
    assert not scene.client.is_closed
    scene.answers(b"last")
    await scene.client.settles()
    assert not exchange.keep_alive
    assert scene.answer.is_whole
    assert scene.client.is_closed


@on_wires
async def test_a_worker_that_stops_soon_tells_so(scene: Scene) -> None:
    exchange = await scene.asked()
    await end_worker(scene.client)
    assert (scene.told, exchange.gone) == (["interrupt"], False)


@on_wires
async def test_the_listener_is_let_go_of_at_the_end_of_the_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.answers(b"whole")
    assert exchange.listener is None


@on_wires
async def test_the_listener_is_let_go_of_when_the_client_leaves(scene: Scene) -> None:
    exchange = await scene.asked()
    await scene.client.leaves()
    assert exchange.listener is None


@on_wires
async def test_an_answer_leaves_no_work_for_the_garbage_collector(scene: Scene) -> None:
    """The listener keeps its exchange, and the exchange its listener only while it is told of something."""
    await scene.asked("POST", body=b"body")
    scene.answers(b"whole")
    seen = weakref.ref(scene.listener)
    gc.disable()
    try:
        scene.listeners.clear()
        assert seen() is None
    finally:
        gc.enable()


# --- the stop, as the worker tells a connection of it


@on_wires
async def test_an_idle_connection_is_closed(scene: Scene) -> None:
    await in_callback(scene.client.connection.close_idle)
    assert scene.client.is_closed


@on_wires
async def test_a_connection_with_a_request_is_not_idle(scene: Scene) -> None:
    await scene.asked()
    await in_callback(scene.client.connection.close_idle)
    assert not scene.client.is_closed


@on_wires
async def test_a_connection_whose_client_has_not_taken_its_answer_is_not_idle(scene: Scene) -> None:
    await scene.asked()
    scene.client.stops_taking()
    scene.answers(b"whole")
    await in_callback(scene.client.connection.close_idle)
    assert not scene.client.is_closed


@on_wires
async def test_near_the_end_of_the_stop_a_connection_without_a_request_is_closed(scene: Scene) -> None:
    await end_worker(scene.client)
    assert scene.client.is_closed


@on_wires
async def test_those_that_have_taken_over_their_connection_can_be_told_alone(scene: Scene) -> None:
    await scene.asked()
    await in_callback(scene.client.connection.interrupt_upgraded)
    assert scene.told == []
    scene.answers()
    await scene.client.asks_for_websocket()
    await in_callback(scene.client.connection.interrupt_upgraded)
    assert scene.told == ["interrupt"]


@pytest.mark.parametrize("protocol", [Exchange, Upgraded, Served])
@pytest.mark.parametrize("wire", ALL_WIRES)
def test_a_wire_has_every_member_that_the_contract_names(wire: str, protocol: type) -> None:
    async def main() -> None:
        scene = Scene(wire)
        side: Any = scene.client.connection
        if protocol is Exchange:
            side = await scene.asked()
        elif protocol is Upgraded:
            await scene.client.asks_for_websocket()
            side = scene.exchange.connection
        # `began` is set where there is an access log
        named = {name for each in protocol.__mro__ for name in (*vars(each), *vars(each).get("__annotations__", ()))}
        assert {name for name in named if not name.startswith("_") and not hasattr(side, name)} <= {"began"}

    on_loop(main)


# --- files


@contextmanager
def a_file(content: bytes) -> Iterator[int]:
    """Give the descriptor of a file."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


CONTENT = bytes(range(256)) * 1000


@on_wires
async def test_a_file_is_a_whole_answer(scene: Scene) -> None:
    exchange = await scene.asked()
    with a_file(CONTENT) as fd:
        await exchange.send_file(OK, FIELDS, fd, 0, len(CONTENT))
    answer = scene.answer
    assert (answer.status, answer.length, answer.is_whole) == (200, len(CONTENT), True)
    assert answer.body == CONTENT
    assert answer.fields == [(b"x-mine", b"yes")]
    assert (exchange.sent, exchange.stage) == (len(CONTENT), WHOLE)


@on_wires
async def test_a_part_of_a_file_is_sent(scene: Scene) -> None:
    exchange = await scene.asked()
    with a_file(CONTENT) as fd:
        await exchange.send_file(OK, NONE, fd, 1000, 5000)
    assert (scene.answer.length, scene.answer.body) == (5000, CONTENT[1000:6000])


@on_wires
async def test_a_shorter_length_ends_a_file_early(scene: Scene) -> None:
    exchange = await scene.asked()
    with a_file(CONTENT) as fd:
        await exchange.send_file(OK, _length(1000), fd, 0, len(CONTENT))
    assert (scene.answer.length, scene.answer.body, scene.answer.is_whole) == (1000, CONTENT[:1000], True)


@on_wires
async def test_a_longer_length_than_the_files_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    with a_file(b"short") as fd, pytest.raises(ResponseError, match="Content-Length"):
        await exchange.send_file(OK, _length(6), fd, 0, 5)
    assert (scene.client.answers, exchange.stage) == ([], WAITING)


@on_wires
async def test_a_file_behind_a_head_is_an_error(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.answers(b"", more=True)
    with a_file(b"late") as fd, pytest.raises(ResponseError):
        await exchange.send_file(OK, NONE, fd, 0, 4)


@on_wires
async def test_an_answer_to_head_has_the_length_of_the_file_and_nothing_of_it(scene: Scene) -> None:
    exchange = await scene.asked("HEAD")
    with a_file(CONTENT) as fd:
        await exchange.send_file(OK, NONE, fd, 0, len(CONTENT))
    assert (scene.answer.length, scene.answer.body, scene.answer.is_whole) == (len(CONTENT), b"", True)
    assert exchange.sent == 0


@on_wires
async def test_a_truncated_file_is_an_oserror(scene: Scene) -> None:
    exchange = await scene.asked()
    with a_file(b"short") as fd, pytest.raises(OSError, match="truncated"):
        await exchange.send_file(OK, NONE, fd, 0, 10)
    await scene.client.settles()
    exchange.fail()
    assert not scene.answer.is_whole
    assert scene.client.is_cut


@on_wires
async def test_a_file_waits_for_its_client(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.client.stops_taking()
    with a_file(CONTENT) as fd:
        task = asyncio.ensure_future(exchange.send_file(OK, NONE, fd, 0, len(CONTENT)))
        await until(exchange.is_held, "it waits")
        assert not task.done()
        assert scene.client.unsent < len(CONTENT)
        await scene.client.takes()
        await task
    assert (scene.answer.body, scene.answer.is_whole) == (CONTENT, True)


@on_wires
async def test_a_file_for_a_client_that_leaves_is_given_up(scene: Scene) -> None:
    exchange = await scene.asked()
    scene.client.stops_taking()
    with a_file(CONTENT) as fd:
        task = asyncio.ensure_future(exchange.send_file(OK, NONE, fd, 0, len(CONTENT)))
        await until(exchange.is_held, "it waits")
        await scene.client.leaves()
        with pytest.raises(ClientGoneError):
            await task
        os.fstat(fd)  # the caller's still


# --- a connection that is taken over


class Taken:
    """A scene in which the application has accepted a WebSocket."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.connection = scene.exchange.connection
        self.write = scene.exchange.upgrade(status_of(101), FIELDS)


async def upgraded(scene: Scene) -> Taken:
    await scene.client.asks_for_websocket()
    return Taken(scene)


@on_wires
async def test_an_upgrade_is_accepted_with_fields(scene: Scene) -> None:
    await upgraded(scene)
    assert (scene.answer.status, scene.answer.fields) == (101, [(b"x-mine", b"yes")])
    assert scene.exchange.stage is SENDING
    assert not scene.exchange.keep_alive


@on_wires
async def test_a_request_for_an_upgrade_may_be_answered_as_any_other(scene: Scene) -> None:
    await scene.client.asks_for_websocket()
    scene.answers(b"no", status=403)
    assert (scene.answer.status, scene.answer.body, scene.answer.is_whole) == (403, b"no", True)
    assert scene.client.has_last


@on_wires
async def test_bytes_go_both_ways_behind_an_upgrade(scene: Scene) -> None:
    taken = await upgraded(scene)
    await scene.client.sends(b"ping")
    taken.write(b"pong")
    taken.connection.write(b"!")
    assert (scene.listener.got, scene.answer.body) == (b"ping", b"pong!")


@on_wires_in_turn
async def test_what_came_before_the_upgrade_was_begun_is_kept(scene: Scene) -> None:
    await scene.client.asks(target=b"/before")
    await scene.client.asks_for_websocket()
    await scene.client.sends(b"early")
    scene.answers()
    await until(lambda: len(scene.listeners) == 2, "the upgrade begins")
    assert scene.exchange.connection.take_rest() == b"early"
    assert scene.exchange.connection.take_rest() == b""


@on_wires_in_turn
async def test_a_listener_may_stop_the_reading(scene: Scene) -> None:
    taken = await upgraded(scene)
    taken.connection.pause_reading()
    assert scene.client.is_held_up
    taken.connection.resume_reading()
    assert not scene.client.is_held_up


@on_wires
async def test_a_client_that_takes_too_little_pauses_an_upgraded_connection(scene: Scene) -> None:
    taken = await upgraded(scene)
    scene.client.stops_taking()
    for _ in range(2):
        taken.write(PIECE)
    assert taken.connection.paused
    await scene.client.takes()
    assert not taken.connection.paused
    assert scene.told == ["resumed"]


@on_wires
async def test_the_deadline_of_an_upgraded_connection_is_the_listeners(scene: Scene) -> None:
    taken = await upgraded(scene)
    taken.connection.deadline = scene.context.clock.now + 5
    await scene.client.lets_time_pass()
    assert scene.told == ["expired"]


@on_wires
async def test_an_upgraded_connection_closes_when_all_is_taken(scene: Scene) -> None:
    taken = await upgraded(scene)
    scene.client.stops_taking()
    taken.write(b"last")
    taken.connection.close()
    assert taken.connection.is_closing()
    await scene.client.takes()
    assert scene.answer.body == b"last"
    assert not scene.client.is_cut


@on_wires
async def test_an_upgraded_connection_may_be_broken_off(scene: Scene) -> None:
    taken = await upgraded(scene)
    taken.connection.abort()
    await until(lambda: scene.told == ["gone"], "the loss is told")
    assert scene.client.is_cut
    assert taken.connection.is_closing()


@on_wires_in_turn
async def test_an_upgraded_connection_may_wait_for_the_clients_end(scene: Scene) -> None:
    scene.keeps_open = False
    taken = await upgraded(scene)
    taken.connection.linger()
    assert scene.client.has_last
    assert not scene.client.is_closed
    await scene.client.ends_stream()
    assert scene.client.is_closed


@pytest.mark.parametrize("keeps_open", [True, False])
@pytest.mark.parametrize("wire", ALL_WIRES)
def test_the_listener_says_whether_a_half_closed_connection_stays_open(wire: str, keeps_open: bool) -> None:
    async def main() -> None:
        scene = Scene(wire)
        scene.keeps_open = keeps_open
        taken = await upgraded(scene)
        await scene.client.ends_stream()
        assert scene.told[0] == "done"
        assert taken.connection.is_closing() is not keeps_open
        assert scene.client.is_closed is not keeps_open

    on_loop(main)


@on_wires
async def test_a_listener_may_answer_the_handshake_by_itself(scene: Scene) -> None:
    await scene.client.asks_for_websocket()
    scene.exchange.take_over(101, 0)
    assert scene.exchange.stage is SENDING


@on_wires
async def test_an_upgraded_exchange_that_is_finished_closes_its_connection(scene: Scene) -> None:
    taken = await upgraded(scene)
    exchange = scene.exchange
    taken.write(b"last")
    exchange.finish()
    assert (exchange.stage, exchange.listener) == (WHOLE, None)
    assert scene.answer.body == b"last"
    assert scene.client.is_closed
