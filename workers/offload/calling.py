"""`hybrid.offload` and `hybrid.executor`: a call leaves this process, and its outcome comes back."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hybrid.workers.contract.offload_queue import DEFAULT
from hybrid.workers.offload import place
from hybrid.workers.offload.errors import OffloadCancelled
from hybrid.workers.offload.job import Job, Outcome
from hybrid.workers.offload.packing import Packed, pack_call

if TYPE_CHECKING:
    from hybrid.workers.offload.desk import Desk

P = ParamSpec("P")
T = TypeVar("T")


def offload(
    function: Callable[..., T],
    /,
    *args: Any,
    timeout: float | None = None,
    retries: int = 0,
    wait: bool = True,
    pool: str = DEFAULT,
    **kwargs: Any,
) -> Job[T]:
    """Run `function(*args, **kwargs)` in another process, and return its `Job`: `await` it, or call its `result()`.

    The function is any callable: importable ones travel as a name, lambdas and closures by value. `timeout`, in
    seconds from now, ends the call (`OffloadTimeout`); None: `--offload-timeout`; 0: never. `retries`: how often to run
    it again if its process dies. `wait=False`: raise `OffloadQueueFull` if too many calls wait; otherwise a greenlet or
    a thread waits here for room, and a coroutine when it awaits the job. `pool`: the name of the offload workers that
    run it, as in `[service.web.offload.ml]`. (A function with parameters of these names: use
    `functools.partial`.)

    Works in coroutines, greenlets, threads, and outside of a service, where a small pool of processes is made for calls
    to any pool. Raises `TypeError` for what cannot be sent, with the path to it, and for an async function;
    `ValueError` for a pool that the service does not have.
    """
    _check(function, timeout, retries, pool)
    name = _name_of(function)
    if place.standing() is place.Standing.INSIDE:
        return _at_once(function, args, kwargs, name)
    packed = pack_call(function, args, kwargs)
    settings = place.pool(pool)
    if settings is None:
        from hybrid.workers.offload import alone

        return alone.submit(packed, name, timeout, retries)
    seconds = settings.timeout if timeout is None else timeout
    return _submit(packed, name, pool, seconds, retries, wait=wait)


def _check(function: object, timeout: object, retries: object, pool: object) -> None:
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called: give a function and its arguments, as offload(f, 1, 2)")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{_name_of(function)} is async, and would need a loop: give a plain function")
    if timeout is not None and not (isinstance(timeout, int | float) and math.isfinite(timeout) and timeout >= 0):
        raise ValueError(f"timeout: {timeout!r}: give seconds, 0 for no limit")
    if not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries: {retries!r}: give a number, 0 or more")
    place.check_pool(pool)


def _submit(packed: Packed, name: str, pool: str, timeout: float, retries: int, *, wait: bool) -> Job[Any]:
    """Submit a call of a process that serves."""
    if not place.is_on_loop():
        return _submit_from_thread(packed, name, pool, timeout, retries, wait=wait)
    desk = place.desk(pool)
    if not wait and desk.is_full:
        raise desk.refuses(name)
    while desk.is_full and _wait_for_room(desk):
        pass  # another call may have come first
    job: Job[Any] = Job(desk, name)
    desk.submit(job, packed, timeout, retries)
    return job


def _wait_for_room(desk: Desk) -> bool:
    """Park the calling greenlet until a call may wait; return False in a coroutine, which does not wait here."""
    from hybrid.workers import runtime

    try:
        parking = runtime.current().parking()
    except RuntimeError:  # the greenlet that runs the loop: the call waits beyond the limit, as its coroutine does
        return False
    wake = parking.wake_soon
    desk.when_room(wake)
    try:
        parking.wait()
    except BaseException:  # the greenlet is killed, or has a timeout
        desk.needs_no_room(wake)
        raise
    return True


def _submit_from_thread(packed: Packed, name: str, pool: str, timeout: float, retries: int, *, wait: bool) -> Job[Any]:
    loop = place.service().loop
    made: concurrent.futures.Future[Job[Any]] = concurrent.futures.Future()

    def begin() -> None:
        if place.standing() is not place.Standing.SERVES:
            made.set_exception(OffloadCancelled(f"{name} is not run: this worker ends"))
            return
        desk = place.desk(pool)
        if wait:
            desk.when_room(lambda: submit(desk))
        elif desk.is_full:
            made.set_exception(desk.refuses(name))
        else:
            submit(desk)

    def submit(desk: Desk) -> None:
        job: Job[Any] = Job(desk, name)
        try:
            desk.submit(job, packed, timeout, retries)
        except BaseException as error:  # noqa: BLE001 - raised in the thread, which waits
            made.set_exception(error)
        else:
            made.set_result(job)

    loop.call_soon_threadsafe(begin)
    return made.result()


def _at_once(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Job[T]:
    """Make a call within a call: to wait for another offload worker could last forever."""
    job: Job[T] = Job(_Nowhere(), name)
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - `Job.result` raises it
        job.ends(Outcome.RAISED, error=error)
    else:
        job.ends(Outcome.DONE, result)
    return job


class _Nowhere:
    """Carries jobs that have ended."""

    loop = None

    def cancel(self, job: Job[Any]) -> None:
        """Do nothing."""


def _name_of(function: object) -> str:
    if isinstance(function, functools.partial):
        return _name_of(function.func)
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


class Executor(concurrent.futures.Executor):
    """`hybrid.offload` as an executor of the standard library, e.g. for `loop.run_in_executor`."""

    def __init__(self, timeout: float | None = None, pool: str = DEFAULT) -> None:
        """`timeout`, in seconds, and `pool` are those of each call, as for `hybrid.offload`."""
        self._timeout = timeout
        self._pool = pool
        self._jobs: set[Job[Any]] = set()
        self._is_shut_down = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Offload a call; return its future. Raises what `hybrid.offload` raises."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        call = functools.partial(function, *args, **kwargs) if kwargs else function
        job: Job[T] = offload(call, *(() if kwargs else args), timeout=self._timeout, pool=self._pool)
        future: _Future[T] = _Future()
        future.job = job
        self._jobs.add(job)
        job.add_done_callback(functools.partial(self._ended, future))
        return future

    def _ended(self, future: _Future[Any], job: Job[Any]) -> None:
        self._jobs.discard(job)
        if job.cancelled():
            concurrent.futures.Future.cancel(future)
            future.set_running_or_notify_cancel()
        elif future.set_running_or_notify_cancel():
            error = job.exception()
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(job.result())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further calls; `wait` for those that run, in a thread or a greenlet. The offload workers stay."""
        self._is_shut_down = True
        for job in list(self._jobs):
            if cancel_futures:
                job.cancel()
            elif wait:
                job.exception()


class _Future(concurrent.futures.Future[T]):
    """A future whose cancellation ends the call, also one that runs, and that parks a greenlet which waits for it."""

    job: Job[T]

    def result(self, timeout: float | None = None) -> T:
        """Wait as `Job.result` does. Raises `concurrent.futures.CancelledError` if the call was cancelled."""
        self._wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait as `Job.exception` does. Raises as `result` does."""
        self._wait(timeout)
        return super().exception(timeout)

    def _wait(self, timeout: float | None) -> None:
        # super() waits for a lock, which would block the loop and with it the answer
        if not self.done():
            self.job.exception(timeout)

    def cancel(self) -> bool:
        """Cancel the call; return False if it has ended. The future is cancelled at once, the job a moment later."""
        return super().cancel() if self.job.cancel() else self.cancelled()


def executor(timeout: float | None = None, *, pool: str = DEFAULT) -> Executor:
    """Return an executor whose calls are offloaded to a pool. It needs no shutdown: the service owns the processes."""
    return Executor(timeout, pool)
