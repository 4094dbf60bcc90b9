"""Values of options as people may see them: without secrets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hybrid.config.declaring import Option, declared
from hybrid.config.file import is_masked, masked
from hybrid.config.service import Service

_MASK: Final = "***"


def shown(option: Option, value: object) -> Any:
    """Return a value as a file has it, with secrets masked; None if it is not set."""
    if value is None:
        return None
    if option.is_secret or is_masked(str(option.key)):
        return _MASK
    if isinstance(value, tuple | list):
        return [shown(option, one) for one in value]
    text = option.kind.text(value)
    return masked(text) if isinstance(text, str) else text


def settings_of(service: Service) -> tuple[tuple[str, str], ...]:
    """Return the options of a service that differ from their defaults: key and text."""
    values = (
        (str(option.key), shown(option, getattr(service, option.field)))
        for option in declared(Service)
        if option.key is not None and getattr(service, option.field) != option.default
    )
    return tuple((key, _as_text(value)) for key, value in values if value is not None)


def _as_text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
