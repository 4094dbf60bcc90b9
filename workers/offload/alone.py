"""`hybrid.offload` outside of a service: a small pool of `multiprocess`, made at the first call.

It ends with this process. A fork of this process makes a pool of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from hybrid.workers.common import forks
from hybrid.workers.offload import outcomes
from hybrid.workers.offload.errors import OffloadDied, OffloadError, OffloadTimeout, RemoteTraceback
from hybrid.workers.offload.job import Job, Outcome, cancelled_error
from hybrid.workers.offload.packing import Packed, pack_result, unpack

_log = logging.getLogger("hybrid")
_LAST_WAIT = 2.0  # seconds for the threads to end with the interpreter
_lock = threading.Lock()
_pool: _Pool | None = None


def submit(
    packed: Packed,
    name: str,
    timeout: float | None,
    retries: int,
    *,
    max_result: int = 0,
    option: str = "--offload-max-result",
) -> Job[Any]:
    """Run a call in the pool. `max_result`: the bytes that its result may have, as `option` says; 0: no limit."""
    global _pool
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = _Pool()
        pool = _pool
    job: Job[Any] = Job(pool, name)
    pool.put(job, packed, _Limit(timeout, max_result, option), retries)
    return job


def _end() -> None:
    global _pool
    pool, _pool = _pool, None
    if pool is not None and pool.pid == os.getpid():
        pool.close()


class _Limit:
    """The limits of a call; its time begins now. None or 0: there is none."""

    def __init__(self, timeout: float | None, max_result: int, option: str) -> None:
        self.size = (max_result, option)
        self._timeout = timeout or 0.0
        self._end = time.monotonic() + self._timeout

    def left(self) -> float | None:
        """Return the seconds that are left; None: there is no limit."""
        return max(0.0, self._end - time.monotonic()) if self._timeout else None

    def error(self, job: Job[Any]) -> OffloadTimeout:
        """Return the error of a job that has not ended in time."""
        return OffloadTimeout(f"{job.name} has not ended within {self._timeout:g} s")


class _Pool:
    """Runs each call in a fork of this process, some at a time. A call that must end takes its process along."""

    loop = None

    def __init__(self) -> None:
        import multiprocess.util  # only outside of a service; its own end of processes comes behind ours

        self.pid = os.getpid()
        self._context = multiprocess.get_context("fork")
        self._most = max(1, len(os.sched_getaffinity(0)) - 1)
        self._threads = 0  # each waits for one process at a time
        self._working: list[threading.Thread] = []
        self._idle = 0
        self._calls: queue.SimpleQueue[tuple[Job[Any], Packed, _Limit, int] | None] = queue.SimpleQueue()
        self._deadlines: queue.SimpleQueue[tuple[Job[Any], _Limit]] = queue.SimpleQueue()
        self._has_clock = False
        self._processes: dict[Job[Any], Any] = {}
        self._is_closed = False
        atexit.register(_end)

    def put(self, job: Job[Any], packed: Packed, limit: _Limit, retries: int) -> None:
        """Run a call soon."""
        self._calls.put((job, packed, limit, retries))
        if limit.left() is not None:
            self._deadlines.put((job, limit))
        with _lock:
            if limit.left() is not None and not self._has_clock:
                self._has_clock = True
                threading.Thread(target=self._watch, name="hybrid-offload clock", daemon=True).start()
            if self._idle or self._threads >= self._most:
                return
            self._threads += 1
        thread = threading.Thread(target=self._work, name="hybrid-offload", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or the interpreter ends
            with _lock:
                self._threads -= 1
            job.ends(Outcome.FAILED, error=OffloadError(f"{job.name} cannot be run: {error}"))
            return
        self._working.append(thread)

    def _work(self) -> None:
        while True:
            with _lock:
                self._idle += 1
            call = self._calls.get()
            with _lock:
                self._idle -= 1
            if call is None:
                return
            self._run(*call)
            del call

    def _watch(self) -> None:
        """End the jobs that wait for longer than they may; `_run_once` ends those that run."""
        waiting: list[tuple[Job[Any], _Limit]] = []
        while True:
            times = [left for _, limit in waiting if (left := limit.left()) is not None]
            with contextlib.suppress(queue.Empty):
                waiting.append(self._deadlines.get(timeout=min(times, default=None)))
            for job, limit in waiting:
                if not limit.left() and job not in self._processes:
                    job.ends(Outcome.TIMED_OUT, error=limit.error(job))
            waiting = [(job, limit) for job, limit in waiting if not job.done() and limit.left()]

    def _run(self, job: Job[Any], packed: Packed, limit: _Limit, retries: int) -> None:
        try:
            while not job.done() and not self._run_once(job, packed, limit, is_last=retries <= 0):
                retries -= 1
        except OSError as error:  # no processes, no descriptors, no memory
            job.ends(Outcome.FAILED, error=OffloadError(f"{job.name} cannot be run: {error.strerror}"))

    def _run_once(self, job: Job[Any], packed: Packed, limit: _Limit, *, is_last: bool) -> bool:
        started = self._start(job, packed, limit)
        if started is None:
            _drop(job)  # not while the lock is held: callbacks of the job may offload
            return True
        process, ours = started
        try:
            if job.done():
                return True
            if ours.poll(limit.left()):
                end = _end_told_by(job, *unpack(ours.recv_bytes()))
            else:
                end = partial(job.ends, Outcome.TIMED_OUT, error=limit.error(job))
        except (EOFError, OSError):
            process.join()
            if not is_last and not job.done():
                return False
            error_of_death = OffloadDied(f"the process that ran {job.name} has died: exit code {process.exitcode}")
            end = partial(job.ends, Outcome.DIED, error=error_of_death)
        except Exception as error:  # noqa: BLE001 - code of the outcome's classes
            failed = OffloadError(f"the outcome of {job.name} cannot be loaded: {type(error).__name__}: {error}")
            end = partial(job.ends, Outcome.FAILED, error=failed)
        finally:
            ours.close()
            process.kill()
            process.join()
            self._processes.pop(job, None)
            with contextlib.suppress(ValueError):  # other code of this process has reaped it
                process.close()  # its descriptors, before anybody hears of the end
        end()  # now that nothing is left
        return True

    def _start(self, job: Job[Any], packed: Packed, limit: _Limit) -> tuple[Any, Any] | None:
        """Start the process of a job; return it and the connection for its outcome. None: it is not wanted any more."""
        buffers = [bytes(buffer) for buffer in packed.buffers]
        with _lock:  # a process of another thread must not inherit the end that its death shall close
            if self._is_closed or job.done():
                return None
            ours, theirs = self._context.Pipe(duplex=False)
            try:
                process = self._context.Process(
                    target=_serve,
                    args=(theirs, packed.pickle, buffers, packed.is_dill, *limit.size),
                    daemon=True,
                )
                with warnings.catch_warnings():  # of forks beside threads, since Python 3.12: see `job._renew_lock`
                    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
                    process.start()
            except RuntimeError:  # the interpreter ends: since Python 3.12 it does not fork any more
                ours.close()
                return None
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            self._processes[job] = process
        return process, ours

    def cancel(self, job: Job[Any]) -> None:
        """End a job, and its process."""
        if job.ends(Outcome.CANCELLED, error=cancelled_error(job)):
            process = self._processes.get(job)
            if process is not None:
                with contextlib.suppress(ValueError):  # it has ended, and is closed
                    process.kill()

    def close(self) -> None:
        """End all processes, and start none from now on. Waits for the threads of the pool, but not for long."""
        with _lock:
            self._is_closed = True
            running = list(self._processes.items())
        for job, process in running:
            _drop(job)
            with contextlib.suppress(ValueError):  # it has ended, and is closed
                process.kill()
        end = time.monotonic() + _LAST_WAIT
        for _ in self._working:
            self._calls.put(None)
        for thread in self._working:  # the interpreter must not end while they reap their processes
            thread.join(max(0.0, end - time.monotonic()))


def _drop(job: Job[Any]) -> None:
    """Cancel a job at the end of the interpreter, without a line in the log: nobody will ask for its error."""
    if job.ends(Outcome.CANCELLED, error=cancelled_error(job)):
        job.exception()


def _end_told_by(job: Job[Any], kind: str, value: Any, text: str) -> Callable[[], object]:
    """Return what ends a job with the outcome that its process has sent."""
    if kind == "result":
        return partial(job.ends, Outcome.DONE, value)
    raised = value if isinstance(value, Exception) else OffloadError(f"{job.name}: {value}")
    if text:
        raised.__cause__ = RemoteTraceback(text)
    return partial(job.ends, Outcome.RAISED if raised is value else Outcome.FAILED, error=raised)


def _serve(answers: Any, data: bytes, buffers: list[bytes], is_dill: bool, max_result: int, option: str) -> None:
    """Run a call, in its process."""
    from hybrid.workers.offload import place

    place.is_inside()
    pid = os.getpid()
    try:
        function, args, kwargs = unpack(data, [bytearray(one) for one in buffers], is_dill=is_dill)
        outcome: tuple[str, Any, str] = ("result", function(*args, **kwargs), "")
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        outcome = ("error", error, traceback.format_exc())
    if os.getpid() != pid:  # forked by the call: only its parent answers
        forks.fail(None, outcome[1] if outcome[0] == "error" else None)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it is closed, or None
            stream.flush()  # the process is killed once it has answered
    answers.send_bytes(_packed(outcome, max_result, option))


def _packed(outcome: tuple[str, Any, str], max_result: int, option: str) -> bytes:
    kind, value, text = outcome
    try:
        data = _in_band(outcome)
        unpack(data)
    except Exception as error:  # noqa: BLE001 - code of its classes
        words = f"{type(value).__qualname__}: {value}" if kind == "error" else f"the result {_why(value, error)}"
        return _in_band(("error", words, text))
    if max_result and kind == "result" and len(data) > max_result:
        return _in_band(("error", outcomes.too_large(len(data), max_result, option), ""))
    return data


def _why(result: Any, error: Exception) -> Exception:
    """Return why a result cannot be sent, with a path that begins at it."""
    try:
        pack_result(result)
    except TypeError as found:
        return found
    return error


def _in_band(value: object) -> bytes:
    packed = pack_result(value)
    if packed.buffers or packed.is_dill:
        import dill  # what pickle cannot do, without buffers beside it

        data: bytes = dill.dumps(value)
        return data
    return packed.pickle
