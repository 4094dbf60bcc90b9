"""The suite `lifecycle`: what clients see of a reload, a killed worker, a stop and other changes of a service.

Two workers, nothing pinned; 32 clients ask without a pause, once on connections that are kept alive and once on a new
connection for each request. Every answer is compared, and a request that fails is counted and not repeated.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import figures, report, table
from benchmarks.servers import Command
from benchmarks.service import changes, kills, reloads, rows, stops
from benchmarks.service.scenario import CLIENTS, Scenario

_STRETCH = 10 / 3  # of the seconds of a measurement: ten by default
_Row = tuple[Command, str]  # a server, and the name of its clients
_Found = dict[tuple[str, str], list[Any]]  # name of a server, name of its clients -> samples


def measure(plan: report.Plan) -> report.Report:
    """Measure every scenario. Blocks for about 300 x runs x (seconds + 1)."""
    every = [reloads.scenario(), kills.scenario(), stops.scenario(), *changes.scenarios()]
    chosen = [(one, rows.wanted(plan, one.name, one.commands)) for one in every]
    rows.some(plan, [command for _, commands in chosen for command in commands])
    failures: dict[str, str] = {}
    texts: list[str] = []
    data: dict[str, Any] = {}
    for one, commands in chosen:
        if commands:
            found = _measured(one, commands, plan, failures)
            texts.append(_text(one, found, plan))
            data |= {" ".join([one.name, *key]): {"rounds": _plain(samples)} for key, samples in found.items()}
    return report.Report("\n\n".join(texts), data, failures)


def _measured(scenario: Scenario, commands: list[Command], plan: report.Plan, failures: dict[str, str]) -> _Found:
    chosen: list[_Row] = [(command, kind) for command in commands for kind in CLIENTS]
    found: _Found = {(command.name, kind): [] for command, kind in chosen}
    for number in range(plan.runs):
        for command, kind in figures.rotated(chosen, number * 5):
            name = f"{scenario.name} {command.name} {kind}"
            report.say(f"lifecycle, round {number + 1} of {plan.runs}: {name}")
            with report.attempt(name, failures):
                sample = scenario.measure(command, CLIENTS[kind], plan.seconds * _STRETCH)
                found[command.name, kind].append(sample)
                report.say(f"  {_words(scenario, [sample])}")
    return found


def _words(scenario: Scenario, samples: list[Any]) -> str:
    cells = zip(scenario.columns, scenario.cells(samples), strict=True)
    return ", ".join(f"{name.removeprefix('<')} {cell}" for name, cell in cells)


def _text(scenario: Scenario, found: _Found, plan: report.Plan) -> str:
    title = (
        f"Lifecycle, {scenario.name}: {scenario.title}; {plan.runs} rounds of {plan.seconds * _STRETCH:.3g} s;\n"
        "rates and times are medians, all that is counted is the sum of the rounds"
    )
    columns = ["<server", "<connections", *scenario.columns]
    nothing = ["-"] * len(scenario.columns)
    lines = [[*key, *(scenario.cells(samples) if samples else nothing)] for key, samples in found.items()]
    return table.render(title, columns, lines)


def _plain(samples: list[Any]) -> list[object]:
    return [dataclasses.asdict(one) for one in samples]
