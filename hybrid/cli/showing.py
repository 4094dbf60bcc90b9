"""How `hybrid config` shows values: as lines of TOML with their origin behind them, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hybrid.cli.layers import Chosen, Sourced
from hybrid.cli.modes import Modes
from hybrid.config.declaring import Option, declared
from hybrid.config.file import is_masked, masked
from hybrid.config.service import Service

_MASK = "***"
_COLUMN = 44  # where origins begin, if the value leaves room


def as_text(chosen: Chosen, values: Mapping[str, Sourced]) -> str:
    """Return a line for each value. Those that are not set are left out, as TOML has no word for them."""
    lines = [_line("target", chosen.target.value, chosen.target.origin)]
    for option in _options():
        sourced = values[option.field]
        shown = _shown(option, sourced.value)
        if shown is not None:
            lines.append(_line(str(option.key), shown, sourced.origin))
    return "\n".join(lines)


def as_json(chosen: Chosen, values: Mapping[str, Sourced]) -> str:
    """Return an object: the name of the service, the target, and key -> value and origin."""
    rows: dict[str, Any] = {"target": {"value": chosen.target.value, "origin": chosen.target.origin}}
    for option in _options():
        sourced = values[option.field]
        rows[str(option.key)] = {"value": _shown(option, sourced.value), "origin": sourced.origin}
    return json.dumps({"service": values["name"].value, "values": rows}, indent=2)


def _options() -> list[Option]:
    return [option for option in (*declared(Service), *declared(Modes)) if option.key is not None]


def _shown(option: Option, value: object) -> Any:
    """Return a value as a file has it, with secrets masked."""
    if value is None:
        return None
    if option.is_secret or is_masked(str(option.key)):
        return _MASK
    if isinstance(value, tuple | list):
        return [_shown(option, one) for one in value]
    text = option.kind.text(value)
    return masked(text) if isinstance(text, str) else text


def _line(key: str, value: object, origin: str) -> str:
    return f"{key} = {json.dumps(value, default=str)}".ljust(_COLUMN) + f"  # {origin}"
