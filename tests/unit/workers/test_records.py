"""A record behaves as a frozen dataclass with slots, except that it allows assignments."""

from __future__ import annotations

import copy
import dataclasses
import pickle

from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    note: str = dataclasses.field(default="", compare=False)
    secret: str = dataclasses.field(default="", repr=False)


@record(frozen=True, slots=True)
class Other:
    x: int
    y: int = 0


@record(frozen=True, slots=True, kw_only=True)
class Named:
    x: int

    def __repr__(self) -> str:
        return "its own"


def test_it_is_a_dataclass() -> None:
    assert dataclasses.replace(Point(1), y=2) == Point(1, 2)
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "y", "note", "secret"]
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)


def test_records_are_equal_by_class_and_compared_fields() -> None:
    assert Point(1, note="a") == Point(1, note="b")
    assert hash(Point(1, note="a")) == hash(Point(1, note="b"))
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)


def test_a_field_that_is_not_to_be_shown_is_not() -> None:
    assert repr(Point(1, secret="s")) == "Point(x=1, y=0, note='')"


def test_methods_defined_by_the_class_stay() -> None:
    assert repr(Named(x=1)) == "its own"
    assert Named(x=1) == Named(x=1)


def test_it_has_no_room_for_anything_else() -> None:
    assert not hasattr(Point(1), "__dict__")


def test_it_travels() -> None:
    assert pickle.loads(pickle.dumps(Point(1, 2))) == copy.copy(Point(1, 2)) == Point(1, 2)
