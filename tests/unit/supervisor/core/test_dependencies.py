"""Which service depends on which: what is impossible, and who waits for whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.supervisor.core import dependencies

NAMES = "abcd"
graphs = st.fixed_dictionaries({name: st.lists(st.sampled_from(NAMES), unique=True) for name in NAMES})


@for_each(
    ("depends", "complaint"),
    [
        ({"web": ()}, None),
        ({"web": ("db",), "db": ()}, None),
        ({"web": ("api", "db"), "api": ("db",), "db": ()}, None),
        ({"web": ("bd",), "db": ()}, ("web", "'bd': no such service is to run; to run are: web, db")),
        ({"web": ("web",)}, ("web", "services depend on each other in a circle: web -> web")),
        (
            {"web": ("api",), "api": ("db",), "db": ("api",)},
            ("api", "services depend on each other in a circle: api -> db -> api"),
        ),
    ],
)
def test_impossible_dependencies_are_named(
    depends: dict[str, tuple[str, ...]], complaint: tuple[str, str] | None
) -> None:
    assert dependencies.complaint(depends) == complaint


def test_dependents_are_those_that_name_it_themselves() -> None:
    depends = {"web": ("api",), "api": ("db",), "db": (), "job": ("db",)}
    assert dependencies.dependents(depends, "db") == ("api", "job")
    assert dependencies.dependents(depends, "web") == ()


@given(graphs)
def test_without_a_complaint_all_can_start_in_some_order(depends: dict[str, list[str]]) -> None:
    started: set[str] = set()
    while ready := {name for name, wanted in depends.items() if name not in started and started.issuperset(wanted)}:
        started |= ready
    assert (dependencies.complaint(depends) is None) == (started == set(NAMES))
