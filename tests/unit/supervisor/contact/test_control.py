"""The line between an embedding process and its supervisor; both ends in this process."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybrid.supervisor.contact.control import (
    Control,
    ControlClient,
    ControlClosed,
    ControlError,
    Request,
    ScaleRequest,
    StartError,
    StatusRequest,
    StopRequest,
    pair,
)
from hybrid.supervisor.core.machine import MAX_WORKERS
from hybrid.supervisor.core.status import Status, WorkerStatus
from hybrid.workers.contract.exits import Exit

SOON = 5.0  # seconds
STATUS = Status("web", ("127.0.0.1:9000",), (WorkerStatus(0, 1, 42, "ready", 1.5, 0),))


@pytest.fixture
def ends() -> Iterator[tuple[Control, ControlClient]]:
    control, client = pair()
    yield control, client
    control.close()
    client.close()


@pytest.fixture
def serve(ends: tuple[Control, ControlClient]) -> Iterator[Callable[[Callable[[Control, Request], None]], None]]:
    """Answer requests in a thread until the line is closed."""
    threads: list[threading.Thread] = []

    def begin(answer: Callable[[Control, Request], None]) -> None:
        def run() -> None:
            sock = socket.socket(fileno=os.dup(ends[0].fileno()))
            with sock, contextlib.suppress(ControlClosed):
                control = Control(sock)
                sock.setblocking(True)
                while True:
                    request = control.receive_nowait()
                    assert request is not None
                    answer(control, request)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        threads.append(thread)

    yield begin
    ends[1].close()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


Serve = Callable[[Callable[[Control, Request], None]], None]
Ends = tuple[Control, ControlClient]


def test_a_status_arrives_as_it_was_sent(ends: Ends, serve: Serve) -> None:
    serve(lambda control, request: control.answer_status(request.id, STATUS))
    assert ends[1].status(SOON) == STATUS


def test_the_status_of_as_many_workers_as_may_be_fits(ends: Ends, serve: Serve) -> None:
    workers = tuple(WorkerStatus(n, 10**6, 4_000_000 + n, "draining", 1e9 / 3, 10**6) for n in range(2 * MAX_WORKERS))
    serve(lambda control, request: control.answer_status(request.id, Status("web", STATUS.addresses, workers)))
    assert ends[1].status(SOON).workers == workers


def test_requests_arrive_as_they_were_made(ends: Ends, serve: Serve) -> None:
    seen: list[Request] = []

    def answer(control: Control, request: Request) -> None:
        seen.append(request)
        control.answer(request.id)

    serve(answer)
    ends[1].scale(3, SOON)
    ends[1].stop(graceful=False, timeout=SOON)
    assert seen == [ScaleRequest(1, 3), StopRequest(2, False)]


def test_a_refusal_has_a_reason(ends: Ends, serve: Serve) -> None:
    serve(lambda control, request: control.refuse(request.id, "too many"))
    with pytest.raises(ControlError, match="too many"):
        ends[1].scale(3, SOON)


def test_a_start_gives_the_addresses_every_time_it_is_asked(ends: Ends) -> None:
    ends[0].started(("127.0.0.1:9000",))
    assert ends[1].wait_started(SOON) == ("127.0.0.1:9000",)
    assert ends[1].wait_started(0) == ("127.0.0.1:9000",)


def test_a_failed_start_gives_code_and_reason(ends: Ends) -> None:
    ends[0].ended(Exit.TARGET, "no module named app")
    ends[0].close()
    for _ in range(2):
        with pytest.raises(StartError, match="no module named app") as caught:
            ends[1].wait_started(SOON)
        assert caught.value.code is Exit.TARGET


def test_a_supervisor_that_vanishes_while_it_starts_is_a_failed_start(ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(StartError, match="ended without a message"):
        ends[1].wait_started(SOON)


def test_a_start_error_travels_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(StartError(Exit.BIND, "in use")))
    assert (copy.code, copy.reason, str(copy)) == (Exit.BIND, "in use", "in use")


def test_a_slow_answer_is_not_waited_for(ends: Ends) -> None:
    for ask in (ends[1].status, ends[1].wait_started, lambda timeout: ends[1].scale(2, timeout)):
        with pytest.raises(TimeoutError):
            ask(0.01)


def test_the_answer_to_a_question_that_was_given_up_is_not_taken_for_the_next(ends: Ends, serve: Serve) -> None:
    with pytest.raises(TimeoutError):
        ends[1].scale(2, 0.01)
    serve(
        lambda control, request: (
            control.answer_status(request.id, STATUS) if request.id == 2 else control.refuse(1, "late")
        )
    )
    assert ends[1].status(SOON) == STATUS


def test_a_supervisor_that_does_not_read_is_not_waited_for(ends: Ends) -> None:
    os.set_blocking(ends[1].fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ends[1].fileno(), b"x" * 10_000)
    with pytest.raises(TimeoutError):
        ends[1].status(0.01)


def test_a_start_may_be_waited_for_without_end(ends: Ends) -> None:
    ends[0].started(("a",))
    assert ends[1].wait_started(None) == ("a",)


def test_a_supervisor_that_goes_with_questions_unread_is_gone(ends: Ends) -> None:
    """Then the client's end gives ECONNRESET and not EOF."""
    os.write(ends[1].fileno(), b"unread")
    ends[0].close()
    with pytest.raises(StartError, match="without a message"):
        ends[1].wait_started(SOON)


def test_news_that_arrives_while_something_else_is_asked_is_kept(ends: Ends, serve: Serve) -> None:
    ends[0].started(("a",))
    serve(lambda control, request: control.answer(request.id))
    ends[1].scale(1, SOON)
    assert ends[1].wait_started(0) == ("a",)


def test_a_request_to_a_dead_supervisor_raises(ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(ControlClosed):
        ends[1].status(SOON)
    ends[1].stop(timeout=SOON)


def test_a_closed_client_is_as_good_as_gone(ends: Ends) -> None:
    ends[1].close()
    with pytest.raises(ControlClosed):
        ends[0].receive_nowait()
    with pytest.raises(ControlClosed):
        ends[1].status(SOON)


def test_a_peer_that_resets_the_line_is_gone_too(ends: Ends) -> None:
    """A close with something unread is ECONNRESET and not EOF at the other side."""
    ends[0].started(("a",))
    ends[1].close()
    with pytest.raises(ControlClosed):
        ends[0].receive_nowait()
    ends[0].started(("nobody reads this",))


def test_no_request_is_none(ends: Ends) -> None:
    assert ends[0].receive_nowait() is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"\xff",
        b"{",
        b"[]",
        b"{}",
        b'{"id": 1}',
        b'{"type": "DanceRequest", "id": 1}',
        b'{"type": "ScaleRequest", "id": 1, "workers": "2"}',
    ],
)
def test_a_bad_request_is_an_error_and_the_next_one_is_read(ends: Ends, datagram: bytes) -> None:
    os.write(ends[1].fileno(), datagram)
    os.write(ends[1].fileno(), b'{"type": "StatusRequest", "id": 7}')
    with pytest.raises(ControlError, match="not a request"):
        ends[0].receive_nowait()
    assert ends[0].receive_nowait() == StatusRequest(7)


def test_unread_answers_do_not_block_the_supervisor(ends: Ends) -> None:
    for number in range(5000):
        ends[0].answer_status(number, STATUS)


def test_an_end_travels_as_its_socket_does(ends: Ends) -> None:
    rebuild, arguments = ends[0].__reduce__()
    assert rebuild(*arguments).fileno() == ends[0].fileno()


def test_requests_of_several_threads_overlap(ends: Ends) -> None:
    """The second is answered before the first, and either gets its own answer."""
    control, client = ends
    with ThreadPoolExecutor() as threads:
        scaling = threads.submit(client.scale, 3, SOON)
        first = next_request(control)
        asking = threads.submit(client.status, SOON)
        second = next_request(control)
        assert isinstance(second, StatusRequest)
        control.answer_status(second.id, STATUS)
        assert asking.result(SOON) == STATUS
        assert not scaling.done()
        control.answer(first.id)
        scaling.result(SOON)


def test_a_timeout_counts_while_another_thread_waits(ends: Ends) -> None:
    control, client = ends
    with ThreadPoolExecutor() as threads:
        scaling = threads.submit(client.scale, 3, SOON)
        request = next_request(control)
        with pytest.raises(TimeoutError):
            client.status(timeout=0.05)
        control.answer(request.id)
        scaling.result(SOON)


def test_closing_ends_the_waits_of_other_threads(ends: Ends) -> None:
    control, client = ends
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(client.scale, 3, None), threads.submit(client.status, None)]
        for _ in waiting:
            next_request(control)
        client.close()
        for one in waiting:
            with pytest.raises(ControlClosed):
                one.result(SOON)


def test_a_request_that_cannot_be_read_is_refused_by_its_id(ends: Ends) -> None:
    control, client = ends
    with ThreadPoolExecutor() as threads:
        scaling = threads.submit(client.scale, 2.5, SOON)  # type: ignore[arg-type]
        with pytest.raises(ControlError, match="not a request") as raised:
            next_request(control)
        control.refuse(raised.value.request_id, str(raised.value))
        with pytest.raises(ControlError, match=r"not a request.*2\.5"):
            scaling.result(SOON)


def test_a_refusal_without_an_id_is_for_all_that_wait(ends: Ends) -> None:
    control, client = ends
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(client.status, SOON)
        next_request(control)
        control.refuse(None, "not a request")
        with pytest.raises(ControlError, match="not a request"):
            asking.result(SOON)


def test_how_the_supervisor_ended_is_known_from_its_last_words(ends: Ends) -> None:
    control, client = ends
    control.answer(7)
    control.ended(Exit.OK, "")
    control.close()
    assert client.wait_ended(0) is Exit.OK


def test_a_supervisor_without_last_words_has_not_told_how_it_ended(ends: Ends) -> None:
    control, client = ends
    control.close()
    assert client.wait_ended(SOON) is None


def next_request(control: Control) -> Request:
    """Wait for the next request."""
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    assert poll.poll(SOON * 1000)
    request = control.receive_nowait()
    assert request is not None
    return request
