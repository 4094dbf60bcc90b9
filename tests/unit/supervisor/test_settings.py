"""Settings hand the machine what it needs."""

from __future__ import annotations

import dataclasses

from hybrid.supervisor.addresses import TcpBind
from hybrid.supervisor.policy import Policy
from hybrid.supervisor.settings import Settings


def test_the_policy_is_made_of_the_settings_of_the_same_names() -> None:
    policy = Policy(1.0, 2.0, 3.0, 4.0, 5.0, 6)
    settings = Settings(binds=(TcpBind("127.0.0.1", 0),), workers=1, **dataclasses.asdict(policy))
    assert settings.policy == policy


def test_the_defaults_of_both_agree() -> None:
    assert Settings(binds=(), workers=1).policy == Policy()
