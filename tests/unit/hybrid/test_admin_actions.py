"""The fields of the dashboard's actions."""

from __future__ import annotations

from typing import Any

import pytest
from support.rows import for_each

from hybrid.admin.access import Need
from hybrid.admin.actions import why_not


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("reload", {"service": "web"}),
        ("scale", {"service": "web", "by": -1}),
        ("restart", {"service": "web", "slot": 0}),
    ],
)
def test_right_fields_are_taken(name: str, given: dict[str, Any]) -> None:
    assert why_not(name, given) is None


@for_each(
    ("name", "given", "reason"),
    [
        ("reload", {}, "reload needs service"),
        ("reload", {"service": 1}, "service must be a text"),
        ("reload", {"service": "web", "request": "stop"}, "reload knows no request"),
        ("reload", {"service": "web", "timeout": 1}, "reload knows no timeout"),
        ("scale", {"service": "web", "by": "1"}, "by must be a number"),
        ("scale", {"service": "web", "by": True}, "by must be a number"),
        ("restart", {"service": "web"}, "restart needs slot"),
    ],
)
def test_wrong_fields_are_refused(name: str, given: dict[str, Any], reason: str) -> None:
    assert why_not(name, given) == reason


def test_each_action_is_a_change() -> None:
    from hybrid.admin.actions import Actions

    routes = Actions(None).routes  # type: ignore[arg-type]
    assert set(routes) == {"/actions/reload", "/actions/scale", "/actions/restart"}
    assert {route.need for route in routes.values()} == {Need.ACT}
    assert {method for route in routes.values() for method in route.methods} == {"POST"}
