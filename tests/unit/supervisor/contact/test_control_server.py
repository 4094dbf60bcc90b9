"""Requests of an embedding process and the answers of the shell, over a fake kernel."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.fake_kernel import FakeKernel
from support.shell import Log, run

from hybrid.supervisor.contact.control import Control, ControlClient, pair
from hybrid.supervisor.core.events import How
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.workers.contract.exits import Exit


class Embedder:
    """The other end of the socket pair: sends requests at given times, and collects the answers."""

    def __init__(self, kernel: FakeKernel, client: ControlClient) -> None:
        self._kernel = kernel
        self._client = client

    def says(self, seconds: float, **request: object) -> None:
        self._kernel.at(seconds, lambda: os.write(self._client.fileno(), json.dumps(request).encode()))

    def sends_bad_messages(self, seconds: float) -> None:
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


Ends = tuple[Control, ControlClient]


def test_an_embedder_is_told_of_start_and_end(kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder) -> None:
    embedder.says(1, id=1, type="StopRequest", graceful=True)
    assert run(kernel, control[0]) is Exit.OK
    started, stopping, ended = embedder.heard()
    assert started["type"] == "Started"
    assert started["addresses"][0].startswith("127.0.0.1:")
    assert stopping == {"type": "Answer", "id": 1, "result": None}
    assert ended == {"type": "Ended", "code": 0, "reason": ""}


def test_an_embedder_gets_the_reason_of_a_failed_start(
    kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder
) -> None:
    kernel.on_fork(lambda pid: kernel.says_failed(pid, Exit.TARGET, "no module named app"))
    run(kernel, control[0])
    assert embedder.heard() == [{"type": "Ended", "code": 3, "reason": "no module named app"}]


def test_an_embedder_hears_why_an_address_was_refused(
    kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder
) -> None:
    run(kernel, control[0], binds=(parse_bind("fd://987654"),))
    (ended,) = embedder.heard()
    assert ended["code"] == Exit.BIND
    assert "no such descriptor" in ended["reason"]


def test_a_status_lists_the_workers(kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder) -> None:
    embedder.says(2.5, id=7, type="StatusRequest")
    embedder.says(3, id=8, type="StopRequest", graceful=False)
    assert run(kernel, control[0], service="chat") is Exit.KILLED
    answer = embedder.heard()[1]
    assert answer["id"] == 7
    assert answer["result"]["service"] == "chat"
    # nothing on the scoreboard: fakes do not write
    empty = [None, 0, 0, 0, 0.0, 0]
    # a tenth of a second later: fakes do not answer the roll call
    assert answer["result"]["workers"] == [
        [0, 1, 4711, "ready", pytest.approx(2.6), 0, *empty],
        [1, 1, 4712, "ready", pytest.approx(2.6), 0, *empty],
    ]


def test_a_scale_is_answered_when_all_serve_and_the_retired_are_gone(
    kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder
) -> None:
    kernel.at(1, lambda: kernel.ignores_terminate(4712))
    embedder.says(2, id=1, type="ScaleRequest", workers=1)
    embedder.says(3, id=2, type="StatusRequest")
    kernel.at(4, lambda: kernel.dies(4712, How(code=0)))
    embedder.says(5, id=3, type="StopRequest", graceful=True)
    run(kernel, control[0])
    assert [message["id"] for message in embedder.heard() if "id" in message] == [2, 1, 3]


@pytest.mark.parametrize("workers", [0, 5000])
def test_a_scale_that_cannot_be_is_refused(
    kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder, workers: int
) -> None:
    embedder.says(1, id=1, type="ScaleRequest", workers=workers)
    embedder.says(2, id=2, type="StopRequest", graceful=True)
    run(kernel, control[0])
    assert embedder.heard()[1] == {
        "type": "Refusal",
        "id": 1,
        "reason": f"the number of workers is 1 to 1024, not {workers}",
    }


def test_a_scale_while_stopping_is_refused(kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder) -> None:
    kernel.at(1, lambda: kernel.ignores_terminate(4712))
    embedder.says(2, id=1, type="StopRequest", graceful=True)
    embedder.says(3, id=2, type="ScaleRequest", workers=3)
    run(kernel, control[0])
    assert {"type": "Refusal", "id": 2, "reason": "the supervisor is stopping"} in embedder.heard()


def test_the_end_of_the_embedder_is_a_graceful_stop(
    kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder
) -> None:
    embedder.hangs_up(1)
    assert run(kernel, control[0]) is Exit.OK
    assert "the embedding process is gone" in log()
    assert [name for _, name in kernel.sent] == ["SIGTERM", "SIGTERM"]


def test_bad_messages_of_an_embedder_are_logged_and_later_ones_read(
    kernel: FakeKernel, log: Log, control: Ends, embedder: Embedder
) -> None:
    embedder.sends_bad_messages(1)
    embedder.says(1, id=1, type="StopRequest", graceful=True)
    assert run(kernel, control[0]) is Exit.OK
    assert "refused: not a request: b'lorem ipsum'" in log()
