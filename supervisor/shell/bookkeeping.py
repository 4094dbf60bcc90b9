"""Counts over an upgrade, in ledgers: nothing goes backwards, and nothing is counted twice.

As successor, this supervisor adds the counts of its predecessors to its own. It is given a ledger of each that is still
alive, and a further one in which it writes its own counts until it is in charge.

As predecessor, it gives its successor these ledgers, its own, and an empty one for the successor's. It writes its own
from the start of the successor until its own end: at each status, and every quarter of a second. If the successor
fails, the successor's counts are added to its own.

A ledger has the counts of its writer, and of those before it that had ended when it was given away. A ledger whose
writer has ended is closed, and its counts are kept here.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from hybrid.supervisor.children.call_book import Calls, summed
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.tallies import Tallies, added
from hybrid.supervisor.upgrade.inheritance import Ledgers
from hybrid.supervisor.upgrade.ledger import Content, Ledger, LedgerError
from hybrid.workers.contract.label_counts import LabelCounts, read_report
from hybrid.workers.contract.lines import LOSSES
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import CallCounts, Totals

PAUSE: Final = 0.25
"""Seconds between two updates of the ledger for another supervisor."""
_NOTHING: Final = Totals()
_SUPERVISOR: Final = ""  # in place of a service: what the supervisor counts itself, in slot 0
_T = TypeVar("_T", Totals, CallCounts)

logger = logging.getLogger(LOGGER_NAME)


@record(frozen=True, slots=True)
class Book:
    """The counts of a service."""

    slots: Mapping[int, Totals]
    """Slot -> what its workers have counted."""
    counts: Mapping[str, Any]
    """As `Tallies.of` returns them."""
    labels: Mapping[str, LabelCounts] = dataclasses.field(default_factory=dict)
    """Label -> what its requests have cost."""
    calls: Calls = dataclasses.field(default_factory=dict)

    def plus(self, other: Book) -> Book:
        """Return the sum of two."""
        slots = dict(self.slots)
        for slot, totals in other.slots.items():
            slots[slot] = slots.get(slot, _NOTHING).plus(totals)
        labels = dict(self.labels)
        for label, cost in other.labels.items():
            labels[label] = labels[label].plus(cost) if label in labels else cost
        return Book(slots, added(self.counts, other.counts), labels, summed((self.calls, other.calls)))


Books = Mapping[str, Book]
"""Service -> its counts."""


class Bookkeeping:
    """The ledgers of a supervisor. No method blocks."""

    def __init__(
        self,
        tallies: Tallies,
        branches: Mapping[str, Branch],
        given: Ledgers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`given`: those of the predecessor. `clock`: UNIX seconds."""
        self.since = round(clock(), 3)
        """When the counts began, in UNIX seconds: those of a predecessor are in them."""
        self._tallies = tallies
        self._branches = branches
        self._before = given.before
        self._earlier = [*((given.before,) if given.before is not None else ()), *given.earlier]  # to read
        self._contents: dict[Ledger, tuple[Content, Books]] = {}  # of `_earlier`, as read last
        self._absorbed: Books = {}  # the counts of ledgers that were closed
        self._reply = given.reply  # as successor that is not in charge: ours, for the predecessor
        self._ours: Ledger | None = None  # as predecessor
        self._theirs: Ledger | None = None  # that of our successor
        self._passed: frozenset[Ledger] = frozenset()  # those of `_earlier` that our successor reads itself
        self._ended: dict[str, Book] = {}  # the last counts of services that have ended
        self._written_at = 0.0  # monotonic seconds
        self._inherited: Books = {}
        self._complained: set[Ledger] = set()  # whose error was logged
        self.levels: Callable[[], Mapping[str, Any]] = dict
        """Returns the log levels that operators have set, for a successor."""
        self.edition = 0
        """Grows whenever a ledger of another supervisor has other counts."""
        if self._reply is not None:
            self._claim(self._reply)
        self.refresh()

    # --- as successor

    def inherited(self, service: str) -> Mapping[int, Totals]:
        """Return what the workers of other supervisors had counted, as of the last `refresh`: slot -> counts."""
        found = self._inherited.get(service)
        return {} if found is None else found.slots

    def inherited_labels(self, service: str) -> Mapping[str, LabelCounts]:
        """Return what other supervisors had counted by label, as of the last `refresh`: label -> counts."""
        found = self._inherited.get(service)
        return {} if found is None else found.labels

    def inherited_calls(self, service: str) -> Calls:
        """Return what other supervisors had counted of offloaded calls, as of the last `refresh`."""
        found = self._inherited.get(service)
        return {} if found is None else found.calls

    @property
    def log_dropped(self) -> int:
        """The lines of the log that this supervisor, and as of the last `refresh` others, could not write."""
        return LOSSES.lines + self.inherited(_SUPERVISOR).get(0, _NOTHING).log_dropped

    @property
    def levels_before(self) -> Mapping[str, Any]:
        """The log levels that operators have set at the predecessor; empty: none."""
        if self._before is None:
            return {}
        self.refresh()
        levels = self._read(self._before).get("levels")
        return levels if isinstance(levels, dict) else {}

    def take_charge(self) -> None:
        """Be in charge from now on: the predecessor needs our counts no more."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.close()

    def refresh(self) -> None:
        """Read the ledgers of others again."""
        has_changed = False
        for ledger in tuple(self._earlier):
            is_final = ledger.is_final  # before its last content is read
            before = self._contents.get(ledger)
            content = self._read(ledger)
            if before is None or before[0] is not content:
                has_changed = True
                self._contents[ledger] = content, _books_of(content)
                if ledger is not self._theirs:
                    self.since = min(self.since, content.get("since", self.since))
            if is_final and ledger not in self._passed:
                self._absorb(ledger)
        if has_changed:
            self.edition += 1
            self._inherited = _sum((self._absorbed, *(books for _, books in self._contents.values())))
            self._tallies.inherit({name: book.counts for name, book in self._inherited.items()})

    def _absorb(self, ledger: Ledger) -> None:
        """Keep the last counts of a ledger, and close it."""
        _, books = self._contents.pop(ledger)
        self._absorbed = _sum((self._absorbed, books))
        self._earlier.remove(ledger)
        ledger.close()

    # --- as predecessor

    @property
    def is_open(self) -> bool:
        """True while there is a ledger for a successor."""
        return self._ours is not None

    @property
    def due(self) -> float | None:
        """When to call `keep`, in monotonic seconds; None: never."""
        return None if self._ours is None and self._reply is None else self._written_at + PAUSE

    def open(self, now: float) -> Ledgers:
        """Return the ledgers for a successor that is about to start; without memory for them it starts at zero."""
        self.drop()
        self.refresh()
        try:
            self._theirs = Ledger.create()
            self._ours = Ledger.create()
            self._ours.claim()
        except LedgerError as error:
            logger.warning("counts begin at zero after this upgrade: cannot make a ledger: %s", error)
            for made in (self._theirs, self._ours):
                if made is not None:
                    made.close()
            self._theirs = self._ours = None
            return Ledgers()
        self._passed = frozenset(self._earlier)
        self._write(now)
        return Ledgers(self._ours, tuple(self._earlier), self._theirs)

    def drop(self) -> None:
        """There is no successor: one that was started has failed, and its counts are ours."""
        ours, self._ours = self._ours, None
        theirs, self._theirs = self._theirs, None
        self._passed = frozenset()
        if ours is not None:
            ours.close()
        if theirs is not None:
            self._earlier.append(theirs)
            self.refresh()

    def keep(self, now: float, *, at_once: bool = False) -> None:
        """Update the ledgers if that is due, or `at_once`."""
        if (due := self.due) is not None and (at_once or due <= now):
            self._write(now)

    def service_ended(self, service: str) -> None:
        """Keep the counts of a service that is about to be forgotten."""
        if self.due is not None and service in self._branches:
            self._ended[service] = self._book(service)

    def close(self) -> None:
        """Close all ledgers; may be called twice, and in children."""
        for ledger in (self._ours, self._theirs, self._reply, *self._earlier):
            if ledger is not None:
                ledger.close()
        self._ours = self._theirs = self._reply = None

    def _write(self, now: float) -> None:
        self._written_at = now
        own = {**self._ended, **{name: self._book(name) for name in self._branches}}
        own[_SUPERVISOR] = Book({0: Totals(log_dropped=LOSSES.lines)}, {})
        if self._reply is not None:
            self._try_to_write(self._reply, {"services": _packed(own)})
        if self._ours is not None:
            self.refresh()
            unknown = [books for ledger, (_, books) in self._contents.items() if ledger not in self._passed]
            services = _packed(_sum((own, self._absorbed, *unknown)))
            self._try_to_write(self._ours, {"since": self.since, "services": services, "levels": self.levels()})

    def _book(self, service: str) -> Book:
        children = self._branches[service].children
        return Book(children.totals(), self._tallies.own(service), children.label_book.own(), children.calls())

    # --- errors

    def _claim(self, ledger: Ledger) -> None:
        try:
            ledger.claim()
        except LedgerError as error:
            self._complain(ledger, f"if this upgrade fails, its counts are lost: {error}")

    def _read(self, ledger: Ledger) -> Content:
        try:
            return ledger.read()
        except LedgerError as error:
            self._complain(ledger, f"counts of another supervisor are missing: cannot read its ledger: {error}")
            known = self._contents.get(ledger)
            return {} if known is None else known[0]

    def _try_to_write(self, ledger: Ledger, content: Content) -> None:
        try:
            ledger.write(content)
        except LedgerError as error:
            self._complain(ledger, f"later counts do not reach the other supervisor: cannot write a ledger: {error}")

    def _complain(self, ledger: Ledger, text: str) -> None:
        """Log the first error of a ledger."""
        if ledger not in self._complained:
            self._complained.add(ledger)
            logger.warning("%s", text)


def _sum(several: Iterable[Books]) -> Books:
    total: dict[str, Book] = {}
    for books in several:
        for name, book in books.items():
            total[name] = total[name].plus(book) if name in total else book
    return total


def _packed(books: Books) -> dict[str, Any]:
    """Return counts as JSON values."""
    return {
        name: {
            "slots": {slot: list(dataclasses.astuple(totals)) for slot, totals in book.slots.items()},
            "counts": dict(book.counts),
            "labels": {label: list(cost.numbers) for label, cost in book.labels.items()},
            "calls": {pool: list(dataclasses.astuple(counts)) for pool, counts in book.calls.items()},
        }
        for name, book in books.items()
    }


def _books_of(content: Content) -> Books:
    """Return the counts in a ledger."""
    return {
        name: Book(
            {int(slot): _record_of(_NOTHING, values) for slot, values in one["slots"].items()},
            one["counts"],
            _labels_of(one.get("labels", {})),
            {pool: _record_of(CallCounts(), values) for pool, values in one.get("calls", {}).items()},
        )
        for name, one in content.get("services", {}).items()
    }


def _labels_of(found: Mapping[str, list[int]]) -> Mapping[str, LabelCounts]:
    """Return the counts by label of a ledger; none if another version writes them in another form."""
    try:
        return read_report(tuple(found), [number for numbers in found.values() for number in numbers])
    except ValueError:
        return {}


def _record_of(nothing: _T, values: list[Any]) -> _T:
    """Return the counts of a ledger as a record like `nothing`; what another version counts in another form is zero."""
    given: dict[str, Any] = {}
    for field, value in zip(dataclasses.fields(nothing), values, strict=False):
        expected = getattr(nothing, field.name)
        made = tuple(value) if isinstance(value, list) else value
        if isinstance(expected, tuple) == isinstance(made, tuple) and (
            not isinstance(made, tuple) or len(made) == len(expected)
        ):
            given[field.name] = made
    return dataclasses.replace(nothing, **given)
