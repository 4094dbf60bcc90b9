"""The instance id of a worker for OpenTelemetry."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hybrid.workers.boot import resource
from hybrid.workers.boot.resource import VARIABLE, identify
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.worker_spec import WorkerSpec

HOST = os.uname().nodename
OURS = f"service.instance.id=web-3-{os.getpid()}@{HOST}"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test has set an id in this process."""
    monkeypatch.setattr(resource, "_given", [])


@pytest.fixture
def channel() -> Iterator[Channel]:
    ours, theirs = Channel.pair()
    yield ours
    ours.close()
    theirs.close()


def spec(channel: Channel, slot: int = 3, companion: str = "") -> WorkerSpec:
    return WorkerSpec("web", slot, 1, 1, (), channel, 1.0, companion=companion)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "OURS"),
        ("", "OURS"),
        ("service.name=shop,deployment.environment=prod", "service.name=shop,deployment.environment=prod,OURS"),
        ("service.instance.id=mine", "service.instance.id=mine"),
        ("service.name=shop, service.instance.id = mine", "service.name=shop, service.instance.id = mine"),
    ],
)
def test_a_worker_gets_an_id_unless_there_is_one(channel: Channel, before: str | None, after: str) -> None:
    variables = {} if before is None else {VARIABLE: before}
    identify(spec(channel), variables)
    assert variables == {VARIABLE: after.replace("OURS", OURS)}


def test_a_companion_has_an_id_too(channel: Channel) -> None:
    variables: dict[str, str] = {}
    identify(spec(channel, 0, "mailer"), variables)
    assert variables == {VARIABLE: f"service.instance.id=web.mailer-0-{os.getpid()}@{HOST}"}


def test_the_id_of_the_worker_that_became_the_zygote_is_replaced(channel: Channel) -> None:
    variables = {VARIABLE: "service.name=shop"}
    identify(spec(channel, 3), variables)
    identify(spec(channel, 5), variables)
    assert variables == {VARIABLE: f"service.name=shop,service.instance.id=web-5-{os.getpid()}@{HOST}"}
