"""The sum of what all workers of a service count by label."""

from __future__ import annotations

from hybrid.supervisor.children.label_book import MOST_OF_A_WORKER, LabelBook
from hybrid.workers.contract.label_counts import MOST_LABELS, OTHER, SHARED, LabelCounts


def requests(book: LabelBook) -> dict[str, int]:
    return {label: counts.requests for label, counts in book.totals().items()}


def test_the_counts_of_workers_are_added() -> None:
    book = LabelBook()
    book.hear(0, {"a": LabelCounts(1, (0, 1, 0, 0, 0), 10, 20, 30), "b": LabelCounts(1)})
    book.hear(1, {"a": LabelCounts(2, (0, 1, 1, 0, 0), 1, 2, 3)})
    assert book.totals() == {"a": LabelCounts(3, (0, 2, 1, 0, 0), 11, 22, 33), "b": LabelCounts(1)}


def test_a_report_replaces_the_one_before_of_its_labels() -> None:
    book = LabelBook()
    book.hear(0, {"a": LabelCounts(1), "b": LabelCounts(1)})
    book.hear(0, {"a": LabelCounts(5)})
    assert requests(book) == {"a": 5, "b": 1}


def test_a_dead_worker_keeps_its_counts_and_its_place_begins_anew() -> None:
    book = LabelBook()
    book.hear(0, {"a": LabelCounts(5)})
    book.forget(0)
    book.forget(1)
    book.hear(0, {"a": LabelCounts(1)})
    assert requests(book) == {"a": 6}


def test_the_counts_of_a_predecessor_are_added() -> None:
    book = LabelBook(lambda: {"a": LabelCounts(7)})
    book.hear(0, {"a": LabelCounts(1)})
    assert requests(book) == {"a": 8}


def test_the_labels_of_a_predecessor_keep_their_counts_if_own_ones_are_heard_first() -> None:
    book = LabelBook(lambda: {f"first {number}": LabelCounts(1) for number in range(MOST_LABELS)})
    book.hear(0, {"second": LabelCounts(1)})
    assert book.own() == {OTHER: LabelCounts(1)}
    assert requests(book) == {**{f"first {number}": 1 for number in range(MOST_LABELS)}, OTHER: 1}


def test_labels_beyond_the_most_are_counted_together_and_stay_there() -> None:
    book = LabelBook()
    book.hear(0, {f"first {number}": LabelCounts(1) for number in range(MOST_LABELS)})
    assert len(requests(book)) == MOST_LABELS
    book.hear(1, {f"second {number}": LabelCounts(1) for number in range(3)})
    assert requests(book)[OTHER] == 3
    book.forget(0)
    book.forget(1)
    book.hear(2, {"second 0": LabelCounts(1)})
    assert requests(book)[OTHER] == 4
    assert len(book.totals().keys() - SHARED) == MOST_LABELS


def test_a_worker_that_sends_more_labels_than_it_can_have_takes_no_more_memory() -> None:
    book = LabelBook()
    for number in range(3 * MOST_OF_A_WORKER):
        book.hear(0, {f"label {number}": LabelCounts(1)})
    assert sum(requests(book).values()) == MOST_OF_A_WORKER
