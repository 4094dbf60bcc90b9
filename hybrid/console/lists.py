"""The lines of `hybrid ps`, `hybrid stacks`, `hybrid status --blockers` and `hybrid status --labels`. Pure."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hybrid.console import quantities
from hybrid.console.layout import Column, Line, Span, Style, table
from hybrid.console.views import Status, number, rows, text

_SUPERVISORS = (Column("NAME"), Column("PID"), Column("UP", is_right=True), Column("SERVICES"), Column("ADDRESSES"))
_BLOCKERS = (
    Column("SERVICE"),
    Column("STALLS", is_right=True),
    Column("LONGEST", is_right=True),
    Column("WHERE", is_rest=True),
)
_LABELS = (
    Column("SERVICE"),
    Column("LABEL"),
    Column("REQUESTS", is_right=True),
    Column("4XX", is_right=True),
    Column("5XX", is_right=True),
    Column("MEAN", is_right=True),
    Column("LOOP", is_right=True),
    Column("SHARE", is_right=True),
    Column("CPU", is_right=True),
    Column("SHARE", is_right=True),
)
_INDENT = "  "


@dataclasses.dataclass(frozen=True, slots=True)
class Supervisor:
    """A row of `hybrid ps`."""

    name: str
    pid: int | None
    status: Status | None
    """None: it did not answer."""


def supervisor_lines(supervisors: Sequence[Supervisor]) -> list[Line]:
    """Return the table of running supervisors, in full width."""
    return table(_SUPERVISORS, [_supervisor(one) for one in supervisors], None)


def _supervisor(one: Supervisor) -> list[Span]:
    start = [Span(text(one.name), Style.STRONG), Span(quantities.count(one.pid))]
    if one.status is None:
        return [*start, Span(quantities.UNKNOWN), Span("does not answer", Style.BAD), Span("")]
    addresses = [address for service in one.status.services for address in service.addresses]
    return [
        *start,
        Span(quantities.duration(one.status.up)),
        Span(", ".join(service.name for service in one.status.services) or quantities.UNKNOWN),
        Span(", ".join(addresses) or quantities.UNKNOWN),
    ]


def blocker_lines(result: Mapping[str, Any]) -> list[Line]:
    """Return the lines that have blocked loops, in the result of the request `blockers`."""
    found = [
        [
            Span(text(one.get("service"))),
            Span(quantities.count(number(one.get("stalls")))),
            Span(quantities.lag(number(one.get("seconds")))),
            Span(text(one.get("where"))),
        ]
        for one in rows(result.get("blockers"))
    ]
    return table(_BLOCKERS, found, None) if found else [(Span("No loop has stood still."),)]


def label_lines(result: Mapping[str, Any]) -> list[Line]:
    """Return what the requests of each label have cost, in the result of the request `labels`.

    Shares are those of the labelled time of a service, not of all time.
    """
    found = rows(result.get("labels"))
    if not found:
        return [(Span("No requests were counted by label: hybrid run --accounting counts them."),)]
    sums: dict[tuple[str, str], float] = collections.defaultdict(float)  # service, key -> seconds
    for one in found:
        for key in ("loop_seconds", "cpu_seconds"):
            sums[text(one.get("service")), key] += number(one.get(key)) or 0
    return table(_LABELS, [_label(one, sums) for one in found], None)


def _label(one: Mapping[str, Any], sums: Mapping[tuple[str, str], float]) -> list[Span]:
    service, requests, wall = text(one.get("service")), number(one.get("requests")), number(one.get("seconds"))
    given = one.get("responses")
    responses: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    spans = [
        Span(service),
        Span(text(one.get("label"))),
        Span(quantities.count(requests)),
        Span(quantities.count(number(responses.get("4xx")))),
        Span(quantities.count(number(responses.get("5xx")))),
        Span(quantities.lag(wall / requests if requests and wall is not None else None)),
    ]
    for key in ("loop_seconds", "cpu_seconds"):
        seconds, total = number(one.get(key)), sums[service, key]
        spans.append(Span(quantities.lag(seconds)))
        spans.append(Span(quantities.share(seconds / total if seconds is not None and total else None)))
    return spans


def stacks_lines(result: Mapping[str, Any]) -> list[Line]:
    """Return the stacks in the result of the request `stacks`, worker by worker. Frames stand innermost first."""
    lines: list[Line] = []
    for worker in rows(result.get("workers")):
        if lines:
            lines.append(())
        lines += _worker(worker)
    return lines or [(Span("There is no worker to look at."),)]


def _worker(worker: Mapping[str, Any]) -> Iterator[Line]:
    facts = [f"pid {quantities.count(number(worker.get('pid')))}"]
    if (generation := number(worker.get("generation"))) is not None:
        facts.append(f"generation {quantities.count(generation)}")
    if worker.get("source") == "signal" and not text(worker.get("error")):
        facts.append("its loop does not turn: asked by a signal")
    yield (Span(f"{text(worker.get('service'))}/{text(worker.get('slot'))}", Style.STRONG),
           Span(_INDENT + _INDENT.join(facts)))  # fmt: skip
    if error := text(worker.get("error")):
        yield (Span(f"{_INDENT}no stacks: {error}", Style.BAD),)
    for thread in rows(worker.get("threads")):
        is_loop = " (the loop)" if thread.get("is_loop") is True else ""
        yield from _stack(f"thread {text(thread.get('name'))}{is_loop}", thread)
    for greenlet in rows(worker.get("greenlets")):
        yield from _stack(f"greenlet {text(greenlet.get('name'))}".rstrip(), greenlet)
    for task in rows(worker.get("tasks")):
        awaited = text(task.get("waits_for"))
        yield from _stack(f"task {text(task.get('name'))}" + (f" waits for {awaited}" if awaited else ""), task)
    requests = rows(worker.get("requests"))
    if requests:
        yield (Span(f"{_INDENT}requests in progress"),)
    for request in requests:
        seconds = quantities.lag(number(request.get("seconds")))
        request_id = text(request.get("id"))
        shown = f"  {request_id}" if request_id else ""
        yield (Span(f"{_INDENT * 2}{text(request.get('method'))} {text(request.get('path'))}  {seconds}{shown}"),)


def _stack(title: str, owner: Mapping[str, Any]) -> Iterator[Line]:
    yield (Span(_INDENT + title),)
    for frame in rows(owner.get("frames")):
        place = f"{text(frame.get('file'))}:{quantities.count(number(frame.get('line')))}"
        yield (Span(f"{_INDENT * 2}{place}"), Span(f" in {text(frame.get('function'))}", Style.FAINT))
