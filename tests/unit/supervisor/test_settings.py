"""Settings give the machine its limits."""

from __future__ import annotations

import dataclasses

from hybrid.supervisor.core.policy import Intensity, Policy
from hybrid.supervisor.listeners.addresses import TcpBind
from hybrid.supervisor.settings import Settings

DERIVED = {"avoids_stalled", "upgrade_timeout"}


def test_the_policy_is_made_of_the_settings_of_the_same_names() -> None:
    policy = Policy(1.0, 2.0, 3.0, 4.0, 5.0, 6, surge=7, stall_report=8.0, stall_timeout=9.0, intensity=Intensity(1, 2))
    same = {name.name: getattr(policy, name.name) for name in dataclasses.fields(policy) if name.name not in DERIVED}
    made = Settings(binds=(TcpBind("127.0.0.1", 0),), workers=1, **same).policy
    assert dataclasses.replace(made, upgrade_timeout=policy.upgrade_timeout) == policy


def test_stalled_workers_are_avoided_if_there_is_a_threshold() -> None:
    assert not Settings(binds=(), workers=1, stall_threshold=0.0).policy.avoids_stalled
    assert Settings(binds=(), workers=1, stall_threshold=0.1).policy.avoids_stalled


def test_the_defaults_of_both_agree() -> None:
    assert Settings(binds=(), workers=1).policy == Policy()
