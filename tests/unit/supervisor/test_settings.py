"""Settings give the machine its limits."""

from __future__ import annotations

import dataclasses
import signal

import pytest

from hybrid.supervisor.core.policy import Intensity, Policy, Restart
from hybrid.supervisor.core.tree import OnFailure, Rules
from hybrid.supervisor.listeners.addresses import TcpBind
from hybrid.supervisor.settings import Settings

DERIVED = {"avoids_stalled", "upgrade_timeout", "restart", "ending_signal", "overlaps"}


def test_the_policy_is_made_of_the_settings_of_the_same_names() -> None:
    policy = Policy(1.0, 2.0, 3.0, 4.0, 5.0, 6, surge=7, stall_report=8.0, stall_timeout=9.0, intensity=Intensity(1, 2))
    same = {name.name: getattr(policy, name.name) for name in dataclasses.fields(policy) if name.name not in DERIVED}
    made = Settings(binds=(TcpBind("127.0.0.1", 0),), workers=1, **same).policy
    assert dataclasses.replace(made, upgrade_timeout=policy.upgrade_timeout) == policy


def test_stalled_workers_are_avoided_if_there_is_a_threshold() -> None:
    assert not Settings(binds=(), workers=1, stall_threshold=0.0).policy.avoids_stalled
    assert Settings(binds=(), workers=1, stall_threshold=0.1).policy.avoids_stalled


def test_a_program_may_end_by_its_stop_signal_and_has_none_beside_it() -> None:
    policy = Settings(binds=(), workers=1, command=("true",), stop_signal=signal.SIGQUIT).policy
    assert (policy.ending_signal, policy.overlaps) == ("SIGQUIT", False)


@pytest.mark.parametrize("restart", Restart)
def test_the_policy_has_the_rule_for_restarts(restart: Restart) -> None:
    assert Settings(binds=(), workers=1, restart=restart.value).policy.restart is restart


def test_the_rules_of_a_service_are_made_of_its_settings() -> None:
    settings = Settings(binds=(), workers=1, depends=("db",), on_failure="stop")
    assert settings.rules == Rules(("db",), OnFailure.STOP)


def test_the_defaults_of_both_agree() -> None:
    assert Settings(binds=(), workers=1).policy == Policy()
