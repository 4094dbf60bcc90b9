"""The events of the machine, beside the messages that make up some of them."""

from __future__ import annotations

from typing import get_args

from hybrid.supervisor.core.events import ChildMessage
from hybrid.workers.contract.messages import (
    Awake,
    CallDied,
    CallOverdue,
    CannotSpawn,
    Forked,
    GatewayTold,
    LabelsCounted,
    News,
    OffloadAsked,
    Readiness,
    StacksTold,
)

OF_THE_SHELL = {
    *(Awake, Forked, CannotSpawn, Readiness, StacksTold, OffloadAsked, CallOverdue, CallDied, GatewayTold),
    LabelsCounted,
}


def test_the_machine_takes_in_every_message_of_a_child_that_the_shell_does_not_answer_itself() -> None:
    assert {*get_args(ChildMessage), *OF_THE_SHELL} == {*get_args(News)}
    assert OF_THE_SHELL.isdisjoint(get_args(ChildMessage))
