"""How many workers a successor runs."""

from __future__ import annotations

from hybrid.supervisor.upgrade.inheritance import Scale


def test_a_successor_runs_as_many_workers_as_its_predecessor_was_scaled_to() -> None:
    assert Scale(configured=2, wanted=4).for_successor(2) == 4


def test_a_command_that_has_changed_counts_more_than_the_scale() -> None:
    assert Scale(configured=2, wanted=4).for_successor(3) == 3
