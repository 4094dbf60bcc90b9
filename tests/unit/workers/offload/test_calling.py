"""`hybrid.offload` and `hybrid.executor` where there is no service: what they refuse, and what a pool of forks does."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.limits import scarce_descriptors
from support.process import DEADLINE
from support.service import eventually

from hybrid.workers.offload import alone
from hybrid.workers.offload.calling import executor, offload
from hybrid.workers.offload.errors import OffloadDied, OffloadError, OffloadTimeout
from hybrid.workers.offload.job import Job
from hybrid.workers.offload.packing import pack_call


async def async_function() -> None:
    pass


async def async_generator() -> Any:
    yield


@pytest.fixture(autouse=True)
def _calls_have_ended() -> Iterator[None]:
    """Wait for the ends of processes whose calls were cancelled: they follow soon."""
    yield
    eventually(lambda: alone._pool is None or alone._pool._idle == alone._pool._threads, "all have ended")


def forever(path: str) -> None:
    Path(path).touch()
    time.sleep(60)


def dies_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


# --- what is refused


@pytest.mark.parametrize(
    ("function", "options", "error"),
    [
        (5, {}, "5 cannot be called: give a function and its arguments, as offload(f, 1, 2)"),
        (async_function, {}, "async_function is async, and would need a loop: give a plain function"),
        (async_generator, {}, "async_generator is async, and would need a loop: give a plain function"),
        (
            functools.partial(async_function),
            {},
            "async_function is async, and would need a loop: give a plain function",
        ),
        (len, {"timeout": -1}, "timeout: -1: give seconds, 0 for no limit"),
        (len, {"timeout": "5"}, "timeout: '5': give seconds, 0 for no limit"),
        (len, {"timeout": float("nan")}, "timeout: nan: give seconds, 0 for no limit"),
        (len, {"pool": 5}, "pool: 5: give the name of a pool of offload workers"),
        (len, {"retries": -1}, "retries: -1: give a number, 0 or more"),
        (len, {"retries": 1.5}, "retries: 1.5: give a number, 0 or more"),
    ],
)
def test_a_mistake_is_named_at_the_call(function: Any, options: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        offload(function, **options)
    assert str(caught.value) == error


# --- the pool of forks


def test_a_call_has_its_arguments_and_its_result() -> None:
    assert offload(int, "ff", base=16).result(DEADLINE) == 255


def test_the_timeout_ends_the_process(tmp_path: Path) -> None:
    """The fixture of all tests checks that it is gone."""
    job = offload(forever, str(tmp_path / "begun"), timeout=0.5)
    with pytest.raises(OffloadTimeout, match=r"^forever has not ended within 0\.5 s$"):
        job.result(DEADLINE)


def test_a_process_that_dies_is_named_by_its_exit_code() -> None:
    with pytest.raises(OffloadDied, match="has died: exit code -9"):
        offload(lambda: os.kill(os.getpid(), signal.SIGKILL)).result(DEADLINE)


def test_a_call_with_retries_runs_again(tmp_path: Path) -> None:
    assert offload(dies_once, str(tmp_path / "died"), retries=1).result(DEADLINE) == "survived"


def test_large_results_with_buffers_come_back() -> None:
    found = offload(lambda one: (one * 2, lambda: 5), np.arange(100_000)).result(DEADLINE)
    assert (int(found[0][-1]), found[1]()) == (199_998, 5)


def test_a_result_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(OffloadError, match=r"the result cannot be offloaded: the result: _thread\.lock"):
        offload(lambda: threading.Lock()).result(DEADLINE)


def test_a_call_for_which_no_process_can_be_made_fails() -> None:
    offload(len, "").result(DEADLINE)  # imports what it needs
    with scarce_descriptors(0), pytest.raises(OffloadError, match="len cannot be run: Too many open files"):
        offload(len, "").result(DEADLINE)


def test_a_result_above_the_limit_is_refused_without_offload_workers_too() -> None:
    small, large = (alone.submit(pack_call(bytes, (size,), {}), "big", None, 0, max_result=500) for size in (100, 1000))
    assert small.result() == bytes(100)
    with pytest.raises(OffloadError, match=r"^big: the result has 1\d\d\d bytes, and --offload-max-result allows 500$"):
        large.result()


def test_a_pool_that_has_ended_starts_no_process(tmp_path: Path) -> None:
    """The interpreter ends while the thread of a call is on its way."""
    pool = alone._Pool()
    pool.close()
    job: Job[Any] = Job(pool, "forever")
    pool.put(job, pack_call(forever, (str(tmp_path / "begun"),), {}), alone._Limit(None, 0, ""), 0)
    eventually(job.done, "it has ended")
    assert job.cancelled()
    assert not (tmp_path / "begun").exists()


# --- the executor


def test_an_executor_returns_futures_of_the_standard_library() -> None:
    with executor() as pool:
        futures = [pool.submit(pow, 2, number) for number in range(4)]
        done, not_done = concurrent.futures.wait(futures, DEADLINE)
        assert (len(done), not_done) == (4, set())
        assert [future.result() for future in futures] == [1, 2, 4, 8]
        failed = pool.submit(int, "x")
        assert isinstance(failed.exception(DEADLINE), ValueError)


def test_a_future_that_is_cancelled_ends_its_call(tmp_path: Path) -> None:
    pool = executor()
    future = pool.submit(forever, str(tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, "it runs")
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(DEADLINE)


def test_a_future_waits_no_longer_than_asked(tmp_path: Path) -> None:
    future = executor().submit(forever, str(tmp_path / "begun"))
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0.01)
    future.cancel()


def test_an_executor_that_is_shut_down_takes_no_calls(tmp_path: Path) -> None:
    pool = executor()
    future = pool.submit(forever, str(tmp_path / "begun"))
    pool.shutdown(cancel_futures=True)
    assert future.cancelled()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(len, "")


def test_the_timeout_of_an_executor_is_that_of_its_calls(tmp_path: Path) -> None:
    with pytest.raises(OffloadTimeout):
        executor(timeout=0.2).submit(forever, str(tmp_path / "begun")).result(DEADLINE)


# --- pools


def test_outside_of_a_service_all_pools_are_one() -> None:
    assert offload(abs, -1, pool="ml").result() == offload(abs, -1).result() == 1
    assert list(executor(pool="ml").map(abs, (-1, -2))) == [1, 2]


# --- the future of an executor


def test_a_future_is_cancelled_as_soon_as_its_cancel_returns(tmp_path: Path) -> None:
    future = executor().submit(forever, str(tmp_path / "runs"))
    eventually((tmp_path / "runs").exists, "it runs")
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_a_future_that_has_its_result_cannot_be_cancelled() -> None:
    future = executor().submit(abs, -1)
    assert future.result() == 1
    assert (future.cancel(), future.cancelled()) == (False, False)
