"""The history of the dashboard: numbers by time, from statuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.control_peer import AT, program, service, status, worker

from hybrid.admin.history import LENGTH, MOST_WORKERS, SERIES, History, Values, quantile

BOUNDS = [0.001, 0.01]


def durations(*counts: int) -> dict[str, Any]:
    """Return a histogram: up to 1 ms, up to 10 ms, above."""
    return {"bounds": BOUNDS, "counts": list(counts), "sum": 1.0}


def web(*workers: dict[str, Any], at: float = AT, **changes: Any) -> dict[str, Any]:
    """Return a status with one service of these workers."""
    return status(service(workers=list(workers), **changes), at=at)


def test_the_numbers_of_a_service_are_those_of_its_workers_together() -> None:
    history = History()
    history.take(web(worker(0, busy=0.2, queue=1), worker(1, busy=0.4, queue=2), queue=3))
    newest = history.newest("web")
    assert (newest.busy, newest.rate, newest.queue) == (pytest.approx(0.3), 1624, 3)
    assert newest.memory == pytest.approx(2 * 92_274_688, rel=1e-3)


def test_a_worker_that_does_not_serve_does_not_count_as_idle() -> None:
    history = History()
    history.take(web(worker(0, busy=0.8), worker(1, state="booting", busy=0.0)))
    assert history.newest("web").busy == pytest.approx(0.8)


def test_the_queue_of_a_shared_socket_belongs_to_the_service() -> None:
    history = History()
    history.take(web(worker(0, queue=None), queue=7))
    assert history.newest("web").queue == 7
    assert history.newest("web", 0).queue is None


def test_two_workers_of_a_slot_are_one_track() -> None:
    history = History()
    history.take(web(worker(0), worker(0, pid=5000, state="draining", requests_per_second=8.0)))
    assert history.newest("web", 0).rate == 820


def test_quantiles_are_of_the_requests_since_the_moments_before() -> None:
    history = History()
    history.take(web(worker(0, durations=durations(100, 0, 0))))
    assert history.newest("web").p50 is None
    history.take(web(worker(0, durations=durations(100, 100, 0))))
    assert history.newest("web") == history.newest("web")._replace(
        p50=pytest.approx(0.0055), p99=pytest.approx(0.00991)
    )


def test_requests_older_than_the_window_do_not_count() -> None:
    history = History(window=2)
    for counts in ((0, 0, 0), (0, 100, 0), (0, 100, 0), (0, 100, 0)):
        history.take(web(worker(0, durations=durations(*counts))))
    assert history.newest("web").p99 is None


def test_counts_that_a_killed_worker_took_with_it_make_no_quantile() -> None:
    history = History()
    for counts in ((100, 100, 0), (90, 100, 0), (100, 100, 0)):
        history.take(web(worker(0, durations=durations(*counts))))
        assert history.newest("web").p50 is None


def test_slots_that_are_gone_keep_their_counts_in_the_service() -> None:
    history = History()
    history.take(web(worker(0, durations=durations(10, 0, 0)), worker(1, durations=durations(50, 0, 0))))
    past = [{"slot": 1, "durations": durations(50, 0, 0)}]
    history.take(web(worker(0, durations=durations(10, 20, 0)), past=past))
    assert history.newest("web").p50 == pytest.approx(0.0055)


def test_what_is_not_known_is_a_gap() -> None:
    history = History()
    history.take(status(program()))
    assert history.newest("mail") == Values(memory=history.newest("mail").memory)
    assert history.newest("mail").memory is not None
    history.take(status(service()))
    found = history.series("mail")
    assert found is not None
    assert found["memory"][1] is None


def test_the_oldest_moments_leave_and_times_are_in_order() -> None:
    history = History(length=3)
    for second in range(5):
        history.take(web(worker(0, requests_per_second=float(second)), at=AT + second))
    assert history.times() == [AT + 2, AT + 3, AT + 4]
    found = history.series("web", 0)
    assert found is not None
    assert found["rate"] == [2, 3, 4]


def test_a_track_without_numbers_for_the_whole_time_is_dropped() -> None:
    history = History(length=3)
    history.take(web(worker(0), worker(1)))
    for _ in range(3):
        assert history.series("web", 1) is not None
        history.take(web(worker(0)))
    assert history.series("web", 1) is None
    assert history.series("web", 0) is not None


def test_a_thousand_workers_take_no_more_memory_than_their_service() -> None:
    history = History()
    history.take(web(*(worker(slot) for slot in range(1000))))
    assert history.series("web", 0) is None
    assert history.newest("web").rate == 812_000
    assert history.size < 40_000


def test_so_many_workers_take_less_than_two_megabytes() -> None:
    history = History()
    history.take(web(*(worker(slot) for slot in range(MOST_WORKERS))))
    assert history.series("web", MOST_WORKERS - 1) is not None
    assert history.size == (MOST_WORKERS + 1) * LENGTH * 4 * len(SERIES) + LENGTH * 8 < 2_000_000


def test_before_the_first_status_nothing_is_known() -> None:
    history = History()
    assert history.times() == []
    assert history.newest("web") == Values()
    assert history.series("web") is None


def test_values_above_all_bounds_are_the_last_bound() -> None:
    assert quantile(BOUNDS, [0, 0, 5], 0.5) == 0.01
    assert quantile(BOUNDS, [0, 0, 0], 0.5) is None


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_its_value(counts: list[int], share: float) -> None:
    found = quantile(BOUNDS, counts, share)
    if not sum(counts):
        assert found is None
        return
    values = [0.001] * counts[0] + [0.01] * counts[1] + [0.011] * counts[2]
    exact = values[min(int(share * len(values)), len(values) - 1)]
    assert found is not None
    assert found <= exact + 1e-9
    assert 0 <= found <= 0.01
