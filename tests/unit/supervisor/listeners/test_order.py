"""The indexes of a group's members after some have left it and come back."""

from __future__ import annotations

from hybrid.supervisor.listeners.order import Order


def test_at_first_an_index_is_a_slot() -> None:
    order = Order()
    assert order.of(3) == {0: 0, 1: 1, 2: 2}
    assert order.told == ()


def test_the_last_member_takes_the_place_of_one_that_left_and_comes_back() -> None:
    order = Order()
    order.lose([1], 4)
    assert order.of(4) == {0: 0, 3: 1, 2: 2, 1: 3}
    order.lose([0], 4)
    assert order.of(5) == {1: 0, 3: 1, 2: 2, 0: 3, 4: 4}


def test_the_last_member_that_left_comes_back_to_its_place() -> None:
    order = Order()
    order.lose([2], 3)
    assert order.of(3) == {0: 0, 1: 1, 2: 2}


def test_several_that_left_between_two_looks_leave_the_order_unknown() -> None:
    order = Order()
    order.lose([0, 1], 3)
    assert order.of(3) is None


def test_once_all_have_left_the_order_is_that_in_which_they_came_back() -> None:
    order = Order()
    order.lose([0, 1], 3)
    order.lose([0, 1, 2], 3)
    assert order.of(3) == {0: 0, 1: 1, 2: 2}


def test_an_unknown_order_stays_unknown_when_a_member_leaves() -> None:
    order = Order()
    order.lose([0], 2, is_known=False)
    order.lose([1], 2)
    assert order.of(2) is None


def test_a_successor_gets_the_order_of_the_members() -> None:
    order = Order()
    order.lose([0], 3)
    assert Order(order.told).of(4) == {2: 0, 1: 1, 0: 2, 3: 3}
    order.lose([0, 1], 3)
    assert Order(order.told).of(3) is None
