"""The ledgers of a supervisor: what is added, what is counted once, and what is logged."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.shell import Log

from hybrid.supervisor.shell.bookkeeping import Bookkeeping
from hybrid.supervisor.shell.tallies import Tallies
from hybrid.supervisor.upgrade.inheritance import Ledgers
from hybrid.supervisor.upgrade.ledger import Content, Ledger
from hybrid.workers.contract.lines import LOSSES


def content(requests: int, starts: int = 1) -> Content:
    """Return what a supervisor writes whose slot 0 has counted so many requests."""
    counts = {"starts": starts, "deaths": {"SIGKILL": 1}, "reloads": {"complete": 1}, "stalls": 0}
    return {"services": {"web": {"slots": {"0": [0, requests]}, "counts": counts}}}


@pytest.fixture
def made() -> Iterator[list[Ledger]]:
    """The ledgers of a test."""
    ledgers: list[Ledger] = []
    yield ledgers
    for ledger in ledgers:
        ledger.close()


def pair(made: list[Ledger]) -> tuple[Ledger, Ledger]:
    """Return a ledger as its writer has it, and as a reader has it."""
    writer = Ledger.create()
    made += [writer, Ledger(os.dup(writer.fileno()))]
    return made[-2], made[-1]


def test_the_counts_of_all_predecessors_are_added(made: list[Ledger]) -> None:
    (first, first_read), (second, second_read) = pair(made), pair(made)
    first.write(content(3))
    second.write(content(4))
    tallies = Tallies()
    books = Bookkeeping(tallies, {}, Ledgers(second_read, (first_read,)))
    assert books.inherited("web")[0].requests == 7
    counts = tallies.of("web")
    assert not any(counts.pop("starts_by").values()), "the ledgers of another version have no reasons"
    assert counts == {
        "starts": 2,
        "deaths": {"SIGKILL": 2},
        "reloads": {"complete": 2, "failed": 0},
        "stalls": 0,
    }
    assert tallies.own("web")["starts"] == 0
    books.close()


def test_lost_lines_of_a_predecessor_are_added_to_our_own(made: list[Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOSSES, "lines", 5)
    given = Bookkeeping(Tallies(), {}, Ledgers()).open(1.0)
    assert given.before is not None
    heir = Ledger(os.dup(given.before.fileno()))
    made += [heir, given.before, *((given.reply,) if given.reply is not None else ())]
    books = Bookkeeping(Tallies(), {}, Ledgers(heir))
    monkeypatch.setattr(LOSSES, "lines", 2)
    assert books.log_dropped == 7
    books.close()


def test_a_ledger_whose_writer_has_ended_is_closed_and_its_counts_stay(made: list[Ledger]) -> None:
    writer, reader = pair(made)
    writer.write(content(3))
    books = Bookkeeping(Tallies(), {}, Ledgers(reader))
    assert reader.fileno() == -1
    books.refresh()
    assert books.inherited("web")[0].requests == 3
    books.close()


def test_a_successor_is_told_what_ended_supervisors_have_counted(made: list[Ledger]) -> None:
    writer, reader = pair(made)
    writer.write(content(3))
    books = Bookkeeping(Tallies(), {}, Ledgers(reader))
    given = books.open(1.0)
    assert given.before is not None
    assert (given.earlier, given.before.read()) == ((), {})  # the writing end
    heir = Ledger(os.dup(given.before.fileno()))
    made.append(heir)
    assert heir.read()["services"]["web"]["slots"]["0"][1] == 3
    books.close()


def test_the_counts_of_a_failed_successor_are_added(made: list[Ledger]) -> None:
    books = Bookkeeping(Tallies(), {}, Ledgers())
    given = books.open(1.0)
    assert given.reply is not None
    heir = Ledger(os.dup(given.reply.fileno()))
    made.append(heir)
    heir.write(content(5))
    before = books.edition
    books.drop()
    assert (books.inherited("web")[0].requests, books.edition) == (5, before + 1)
    books.close()


def test_a_ledger_that_cannot_be_read_is_logged_once(made: list[Ledger], log: Log) -> None:
    writer, reader = pair(made)
    os.pwrite(writer.fileno(), b"x" * 100, 0)
    books = Bookkeeping(Tallies(), {}, Ledgers(reader))
    books.refresh()
    assert log() == ["counts of another supervisor are missing: cannot read its ledger: neither half is whole"]
    assert books.inherited("web") == {}
    books.close()


def test_a_ledger_that_cannot_be_written_is_logged_once(made: list[Ledger], log: Log) -> None:
    books = Bookkeeping(Tallies(), {}, Ledgers())
    given = books.open(1.0)
    assert given.before is not None
    given.before.close()
    books.keep(2.0, at_once=True)
    books.keep(3.0, at_once=True)
    assert log() == ["later counts do not reach the other supervisor: cannot write a ledger: it is closed"]
    books.close()
