"""How `hybrid config` shows values: as lines of TOML with their origin behind them, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid.cli.layers import Chosen, Sourced, Valued
from hybrid.cli.modes import Modes
from hybrid.config.declaring import Option, declared
from hybrid.config.service import Service
from hybrid.config.shown import shown

_COLUMN = 44  # where origins begin, if the value leaves room


def as_text(found: Sequence[Valued]) -> str:
    """Return a line for each value; with several services, below the name of each.

    Values that are not set are left out, as TOML has no word for them.
    """
    if len(found) == 1:
        return _as_text(found[0].chosen, found[0].values)
    return "\n\n".join(f"[service.{one.chosen.service}]\n{_as_text(one.chosen, one.values)}" for one in found)


def _as_text(chosen: Chosen, values: Mapping[str, Sourced]) -> str:
    is_program = values["command"].value is not None
    lines = [] if is_program else [_line("target", chosen.target.value, chosen.target.origin)]
    for option in _options():
        sourced = values[option.field]
        value = shown(option, sourced.value)
        if value is not None:
            lines.append(_line(str(option.key), value, sourced.origin))
    return "\n".join(lines)


def as_json(found: Sequence[Valued]) -> str:
    """Return an object: the name of the service, the target, and key -> value and origin.

    With several services it has the key `services`, a list of such objects.
    """
    objects = [_as_object(one.chosen, one.values) for one in found]
    return json.dumps(objects[0] if len(objects) == 1 else {"services": objects}, indent=2)


def _as_object(chosen: Chosen, values: Mapping[str, Sourced]) -> dict[str, Any]:
    rows: dict[str, Any] = {"target": {"value": chosen.target.value, "origin": chosen.target.origin}}
    for option in _options():
        sourced = values[option.field]
        rows[str(option.key)] = {"value": shown(option, sourced.value), "origin": sourced.origin}
    return {"service": values["name"].value, "values": rows}


def _options() -> list[Option]:
    return [option for option in (*declared(Service), *declared(Modes)) if option.key is not None]


def _line(key: str, value: object, origin: str) -> str:
    return f"{key} = {json.dumps(value, default=str)}".ljust(_COLUMN) + f"  # {origin}"
