"""Configures `logging` as the file of `--log-config` says, before the application is imported."""

from __future__ import annotations

import copy
import logging
import logging.config
import re

from hybrid.workers.boot.application import LogConfig
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit

_NAME = re.compile(r"Unable to configure \w+ '([^']+)'")  # how `dictConfig` says where a mistake is


def apply(config: LogConfig) -> None:
    """Configure `logging`. Runs code that the file names. Raises `BootError`, with the line if it can be found."""
    try:
        logging.config.dictConfig(copy.deepcopy(config.content))  # it changes its argument
    except Exception as error:
        raise BootError(Exit.USAGE, _complaint(config, error)) from error
    logging.getLogger("hybrid").disabled = False  # it disables all loggers that it is not told of


def _complaint(config: LogConfig, error: Exception) -> str:
    reasons = [str(error) or type(error).__name__]
    cause = error.__cause__
    while cause is not None and len(reasons) < 4:
        reasons.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    match = _NAME.match(reasons[0])
    line = _line_of(match[1], config.text) if match else None
    place = config.path if line is None else f"{config.path}:{line}"
    return f"{place}: {': '.join(reasons)}"


def _line_of(name: str, text: str) -> int | None:
    """Return the first line in which a name is a key, in TOML, JSON or YAML; None if there is none."""
    key = re.compile(rf"""(?:^|[\s."'\[{{,]){re.escape(name)}["']?\s*[]:=]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if key.search(line)), None)
