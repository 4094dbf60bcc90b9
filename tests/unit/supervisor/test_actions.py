"""Every action that the machine can ask for is performed by some method."""

from __future__ import annotations

import typing
from typing import Any

from support.fake_kernel import FakeKernel

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.shell.actions import Actions


def test_every_action_has_a_method(kernel: FakeKernel) -> None:
    unused: Any = type("Unused", (), {"__getattr__": lambda self, name: lambda *_: None})()
    actions = Actions(kernel, unused, unused, unused, unused, lambda: False, unused)
    of_the_shell = {ev.Report, ev.StartSuccessor, ev.EndSuccessor, ev.Finish}
    assert actions.known | of_the_shell == set(typing.get_args(ev.Action))
    assert not actions.known & of_the_shell
