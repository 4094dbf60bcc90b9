"""Accounting: what the requests of each label cost the loop and the processor. In use with `--accounting` only.

One stopwatch for each loop, as one request at a time runs there. `switch` charges the time since the last switch to the
request that ran, and starts to charge another one, or none. Four places call it:

- the first and the last line of a request's code in a greenlet;
- each step of a request's task, and of tasks that the request starts while it runs (`Steps`);
- each switch of greenlets in the loop's thread (greenlet.settrace), because a request that waits lets others run;
- a request that starts within a step of another one: the outer one goes on afterwards.

A request in a thread of its own does not hold the loop: only the processor time of its thread is measured.

A step costs 2.4 us more, a request 5 us (measured): two clocks are read at each switch, and that of the processor is a
system call.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import logging
from collections.abc import Callable, Coroutine
from time import monotonic, thread_time
from typing import Any, cast

import greenlet

from hybrid.workers.common.labels import REQUEST
from hybrid.workers.contract.label_counts import (
    MOST_LABELS,
    OTHER,
    SHARED,
    UNLABELLED,
    LabelCounts,
    microseconds,
    why_no_label,
)
from hybrid.workers.contract.messages import LabelsCounted
from hybrid.workers.contract.scoreboard import CLASSES

PAUSE = 0.25
"""Seconds between two reports."""
_LONG = 1.0  # seconds after which the times of a request are reported before its end
_log = logging.getLogger("hybrid")


class Account:
    """What one request has cost so far. `Accounting.open` makes it."""

    __slots__ = ("began", "cpu", "ended", "is_open", "label", "loop", "sent", "status")

    def __init__(self, began: float) -> None:
        self.began = began
        """Monotonic seconds."""
        self.ended = 0.0
        """Monotonic seconds; set at its end."""
        self.label: str | None = None
        """Set by the application with `hybrid.label`; None: it has none yet."""
        self.sent: str | None = None
        """Set by the header field of the response; wins over `label`, whichever was first. None: no such field yet."""
        self.loop = 0.0
        """Seconds in which it held the loop, and that are not in the totals yet."""
        self.cpu = 0.0
        """Seconds of processor time, likewise."""
        self.is_open = True
        """True until the application has returned."""
        self.status = 0
        """The status of its response; 0: none was sent, or the kind of application has none."""


class _Totals:
    """The totals of one label."""

    __slots__ = ("cpu", "loop", "requests", "responses", "wall")

    def __init__(self) -> None:
        self.requests = 0
        self.responses = [0] * len(CLASSES)
        self.wall = self.loop = self.cpu = 0.0

    @property
    def counts(self) -> LabelCounts:
        times = (microseconds(one) for one in (self.wall, self.loop, self.cpu))
        return LabelCounts(self.requests, tuple(self.responses), *times)


class Accounting:
    """The accounts of one worker. Belongs to the loop's thread, except where a method says otherwise; never blocks."""

    def __init__(
        self,
        label_header: str | None = None,
        clock: Callable[[], float] = monotonic,
        processor: Callable[[], float] = thread_time,
    ) -> None:
        """`label_header`: the field of a response that has its label; None: there is none.

        `clock` and `processor` return seconds.
        """
        self.header = None if label_header is None else label_header.lower()
        """The name of that field in lower case."""
        self._clock = clock
        self._processor = processor
        self._running: Account | None = None  # is charged for the time since `_since`
        self._since = 0.0
        self._processor_since = 0.0
        self._parked: dict[int, Account] = {}  # id of a greenlet that waits -> the account it was charged to
        self._open: set[Account] = set()  # those of requests in progress in the loop's thread
        self._closed: collections.deque[Account] = collections.deque()  # ended in other threads, not counted yet
        self._totals: dict[str, _Totals] = {}
        self._named = 0  # labels in it, but for `SHARED`
        self._reported: dict[str, LabelCounts] = {}
        self._reported_at = -PAUSE  # monotonic seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tracer: Callable[..., object] | None = None  # the one before ours
        self._has_warned = False

    # -- the stopwatch -----------------------------------------------------------------------------------------------

    def switch(self, account: Account | None) -> Account | None:
        """Charge `account` from now on (None: no request runs); return the one that was charged before."""
        before = self._running
        if before is account:
            return before
        now, processor = self._clock(), self._processor()
        if before is not None:
            before.loop += now - self._since
            before.cpu += processor - self._processor_since
        self._since, self._processor_since = now, processor
        self._running = account
        return before

    def traced(self, event: str, args: Any) -> None:
        """Switch with the greenlets of the loop's thread. Called by greenlet in the new greenlet."""
        origin, target = args
        if self._running is not None:
            self._parked[id(origin)] = self._running
        # an id is not reused before its entry is gone: a greenlet that waits is resumed before it is freed
        self.switch(self._parked.pop(id(target), None))
        if self._tracer is not None:
            self._tracer(event, args)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the greenlets of this thread, and the tasks of `loop`, until `end`.

        Tasks are not followed if the application sets a task factory of its own.
        """
        self._loop = loop
        self._tracer = greenlet.settrace(self.traced)
        if loop.get_task_factory() is None:
            loop.set_task_factory(cast(Any, self.make_task))  # typeshed names the parameters

    def end(self) -> None:
        """Stop following; `report` has the rest."""
        greenlet.settrace(self._tracer)
        if self._loop is not None and self.is_own_factory(self._loop.get_task_factory()):
            self._loop.set_task_factory(None)

    def make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **more: Any
    ) -> asyncio.Task[Any]:
        """Return a task; its steps are charged to the request that starts it. A task factory, see asyncio."""
        context: contextvars.Context | None = more.get("context")
        account = REQUEST.get() if context is None else context.get(REQUEST)
        if isinstance(account, Account) and account.is_open and isinstance(coroutine, Coroutine):
            coroutine = Steps(self, account, coroutine)
        return asyncio.Task(coroutine, loop=loop, **more)

    def is_own_factory(self, factory: object) -> bool:
        """Return True if a task factory is `make_task`."""
        return factory == self.make_task

    # -- requests ----------------------------------------------------------------------------------------------------

    def open(self) -> Account:
        """Return the account of a request that begins now. Call `close` at its end."""
        account = Account(self._clock())
        self._open.add(account)
        return account

    def close(self, account: Account, status: int = 0) -> None:
        """Count a request whose application has returned, with the status of its response (0: none)."""
        account.is_open = False
        account.status = status
        account.ended = self._clock()
        self._open.discard(account)
        self._count(account)

    def open_in_thread(self) -> Account:
        """Return the account of a request that begins now in another thread than the loop's. For any thread."""
        return Account(self._clock())

    def close_in_thread(self, account: Account, status: int, cpu: float) -> None:
        """Count such a request at its end; `cpu`: its seconds of processor time. For any thread."""
        account.is_open = False
        account.status = status
        account.ended = self._clock()
        account.cpu = cpu
        self._closed.append(account)

    def header_is(self, value: str | bytes | bytearray | memoryview, account: Account) -> None:
        """Take the label of a response from its header field. A value that is no label is logged once, and ignored."""
        name = bytes(value).decode("latin-1") if isinstance(value, (bytes, bytearray, memoryview)) else value
        if (reason := why_no_label(name)) is None:
            account.sent = name
        elif not self._has_warned:
            self._has_warned = True
            _log.warning("--label-header: %s; further ones are not logged", reason)

    def _count(self, account: Account) -> None:
        totals = self._charge(account)
        totals.requests += 1
        totals.wall += account.ended - account.began
        if account.status:
            totals.responses[min(max(account.status // 100, 1), len(CLASSES)) - 1] += 1

    def _charge(self, account: Account) -> _Totals:
        """Move the times of an account to its label."""
        totals = self._totals_of(account.sent or account.label or UNLABELLED)
        totals.loop += account.loop
        totals.cpu += account.cpu
        account.loop = account.cpu = 0.0
        return totals

    def _totals_of(self, label: str) -> _Totals:
        totals = self._totals.get(label)
        if totals is None:
            if label not in SHARED:
                if self._named >= MOST_LABELS:
                    return self._totals_of(OTHER)
                self._named += 1
            totals = self._totals[label] = _Totals()
        return totals

    # -- the supervisor ----------------------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """True if the last report was a moment ago. On uvloop, pings may come every few milliseconds."""
        return self._clock() - self._reported_at >= PAUSE

    def report(self) -> LabelsCounted | None:
        """Return the totals of the labels that have changed since the last report; None if none have.

        Takes about 1 us for each label.

        Requests in progress that have a label, and take longer than `_LONG`, are in it with their times so far. Others
        may still get another label.
        """
        self._reported_at = self._clock()
        while self._closed:
            self._count(self._closed.popleft())
        before = self._clock() - _LONG
        for account in self._open:
            if (account.sent or account.label) and account.loop and account.began < before:
                self._charge(account)
        counts = {label: totals.counts for label, totals in self._totals.items()}
        changed = {label: one for label, one in counts.items() if one != self._reported.get(label)}
        if not changed:
            return None
        self._reported = counts
        numbers = tuple(number for one in changed.values() for number in one.numbers)
        return LabelsCounted(tuple(changed), numbers)


class Steps(Coroutine[Any, Any, Any]):
    """A coroutine of a request, with each of its steps charged to the request. Awaitable, too.

    Other attributes are those of the coroutine, which debuggers and anyio read.
    """

    __slots__ = ("_account", "_accounting", "wrapped")

    def __init__(self, accounting: Accounting, account: Account, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._accounting = accounting
        self._account = account
        self.wrapped = coroutine
        """The coroutine."""

    def send(self, value: Any) -> Any:
        """Take a step."""
        account = self._account
        if not account.is_open:
            return self.wrapped.send(value)
        accounting = self._accounting
        before = accounting.switch(account)
        try:
            return self.wrapped.send(value)
        finally:
            accounting.switch(before)

    def __next__(self) -> Any:
        return self.send(None)

    def throw(self, *error: Any) -> Any:
        """Take a step that begins with an error."""
        accounting, account = self._accounting, self._account
        is_open = account.is_open
        before = accounting.switch(account) if is_open else None
        try:
            return self.wrapped.throw(*error)
        finally:
            if is_open:
                accounting.switch(before)
            del error  # its traceback holds this frame

    def close(self) -> None:
        """Close the coroutine."""
        self.wrapped.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)
