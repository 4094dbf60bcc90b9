"""Runs the parts of the suite `offload`: calls, payloads, scaling, service."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from benchmarks import report
from benchmarks.offload import calls, payloads, rows, scaling, service
from benchmarks.offload.rows import Caller

_Part = Callable[[list[Caller], report.Plan, dict[str, str]], tuple[str, dict[str, Any]]]
_OF_CALLERS: dict[str, tuple[_Part, bool]] = {  # part -> how it is measured, and whether threads take part
    "calls": (calls.measure, True),
    "payloads": (payloads.measure, False),
    "scaling": (scaling.measure, True),
}
_SERVICE = "service"


def measure(plan: report.Plan) -> report.Report:
    """Measure all parts. Blocks for about runs x (70 x seconds + 120). Raises `LookupError` if the plan wants none."""
    chosen = {
        part: [one for one in rows.callers(with_threads=threads) if _wants(plan, part, one.name)]
        for part, (_, threads) in _OF_CALLERS.items()
    }
    served = [one for one in service.commands() if _wants(plan, _SERVICE, one.name)]
    if not [*itertools.chain(*chosen.values()), *served]:
        raise LookupError(f"no server matches --only {' '.join(plan.only)}")
    failures: dict[str, str] = {}
    found = [_OF_CALLERS[part][0](some, plan, failures) for part, some in chosen.items() if some]
    if served:
        found.append(service.measure(served, plan, failures))
    data = {name: raw for _, more in found for name, raw in more.items()}
    return report.Report("\n\n".join(text for text, _ in found), data, failures)


def _wants(plan: report.Plan, part: str, name: str) -> bool:
    """Return True for `loky`, and for `calls loky` in this part only."""
    return plan.wants(name) or plan.wants(f"{part} {name}")
