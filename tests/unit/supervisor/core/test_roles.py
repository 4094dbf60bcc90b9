"""The numbers of slots, and the names of companions."""

from __future__ import annotations

import pytest
from support.rows import for_each

from hybrid.supervisor.core.roles import MAX_WORKERS, MOST_COMPANIONS, ZYGOTE, Role, Roster, companion_slot, role_of


@for_each(
    ("slot", "role"),
    [
        (ZYGOTE, Role.ZYGOTE),
        (0, Role.WORKER),
        (MAX_WORKERS - 1, Role.WORKER),
        (MAX_WORKERS, Role.COMPANION),
        (companion_slot(3 * MOST_COMPANIONS), Role.COMPANION),
    ],
)
def test_the_slot_tells_the_role(slot: int, role: Role) -> None:
    assert role_of(slot) is role


def test_each_name_has_a_block_of_slots() -> None:
    slots = Roster().slots_of([("mailer", 2), ("clock", 1)])
    assert slots == (companion_slot(0), companion_slot(1), companion_slot(MOST_COMPANIONS))


def test_a_name_keeps_its_slots_whatever_else_is_configured() -> None:
    roster = Roster()
    roster.slots_of([("mailer", 1), ("clock", 1)])
    assert roster.slots_of([("clock", 2)]) == (companion_slot(MOST_COMPANIONS), companion_slot(MOST_COMPANIONS + 1))
    assert roster.companion(companion_slot(0)) == ("mailer", 0)


def test_people_read_a_companion_as_a_service_of_its_own() -> None:
    roster = Roster()
    _, slot = roster.slots_of([("mailer", 2)])
    assert roster.place("web", slot) == ("web.mailer", 1)
    assert roster.place("web", 1) == ("web", 1)
    assert roster.place("web", ZYGOTE) == ("web", "zygote")
    assert (roster.spoken(slot), roster.spoken(1)) == ("mailer/1", "slot 1")


@pytest.mark.parametrize(("name", "number"), [("nobody", 0), ("mailer", MOST_COMPANIONS), ("mailer", -1)])
def test_a_companion_that_cannot_be_has_no_slot(name: str, number: int) -> None:
    roster = Roster()
    roster.slots_of([("mailer", 1)])
    assert roster.slot(name, number) is None
    assert roster.slot("mailer", 0) == companion_slot(0)


def test_a_pool_and_a_companion_of_one_name_have_different_slots() -> None:
    """A name may change its meaning in a file that is read again, while older generations go on."""
    roster = Roster()
    (function,), (calls,) = roster.slots_of([("ml", 1)]), roster.slots_of_pool("ml", 1)
    assert (roster.is_offload(function), roster.is_offload(calls)) == (False, True)
    assert (roster.pool_of(function), roster.pool_of(calls)) == ("", "ml")
    assert roster.place("web", function) == roster.place("web", calls) == ("web.ml", 0)
    assert roster.slot("ml", 0) == calls
    roster.slots_of([("ml", 1)])
    assert roster.slot("ml", 0) == function


def test_a_gateway_serves_the_pool_whose_calls_it_passes_on() -> None:
    roster = Roster()
    (slot,) = roster.slots_of_gateway("cpu")
    assert (roster.is_gateway(slot), roster.is_offload(slot), roster.pool_of(slot)) == (True, False, "cpu")
    assert roster.place("web", slot) == ("web.dask", 0)


def test_workers_and_zygotes_serve_no_pool() -> None:
    assert [Roster().pool_of(slot) for slot in (ZYGOTE, 0)] == ["", ""]
