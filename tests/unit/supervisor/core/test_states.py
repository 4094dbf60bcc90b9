"""The transition table of a child: total, and without a way back."""

from __future__ import annotations

import itertools

import pytest
from support.rows import for_each

from hybrid.supervisor.core.states import ALIVE, KILLABLE, LEAVING, OCCUPYING, TRANSITIONS, UNPROVEN, News, State


def test_every_state_has_an_entry_for_every_news() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, News))


def test_a_gone_child_stays_gone() -> None:
    assert {TRANSITIONS[State.GONE, news] for news in News} == {State.GONE}


@for_each("state", State)
def test_an_exit_ends_every_state(state: State) -> None:
    assert TRANSITIONS[state, News.EXIT] is State.GONE


@pytest.mark.parametrize("state", sorted(LEAVING, key=str))
@pytest.mark.parametrize("news", [News.READY, News.FAILED, News.DRAIN, News.ABORT])
def test_a_leaving_child_never_occupies_a_slot_again(state: State, news: News) -> None:
    assert TRANSITIONS[state, news] in LEAVING


@for_each("state", sorted(KILLABLE, key=str))
def test_everybody_alive_can_be_killed(state: State) -> None:
    assert TRANSITIONS[state, News.KILL] is State.KILLED


@for_each("state", sorted(KILLABLE, key=str))
def test_everybody_alive_can_be_made_to_say_where_it_hangs(state: State) -> None:
    assert TRANSITIONS[state, News.ABORT] is State.ABORTED


@for_each("news", [news for news in News if news is not News.EXIT])
def test_a_killed_child_gets_no_further_order(news: News) -> None:
    assert TRANSITIONS[State.KILLED, news] is State.KILLED


def test_the_named_sets_divide_the_states() -> None:
    assert OCCUPYING.isdisjoint(LEAVING)
    assert set(State) - {State.GONE} == ALIVE
    assert UNPROVEN < OCCUPYING
