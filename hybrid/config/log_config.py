"""The file of `--log-config`: a dictionary for `logging.config.dictConfig`, as TOML, JSON or YAML.

It is read here, in the supervisor: workers may not be allowed to. They apply it (`hybrid.workers.boot.log_config`),
because that imports code of the application.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Final

from hybrid.config.file import FileError, Place, parse_toml, read_text
from hybrid.workers.boot.application import LogConfig

FORMS: Final = (".toml", ".json", ".yaml", ".yml")
_MOST = 1 << 20  # characters


def read(path: Path) -> LogConfig:
    """Return what the file says. Raises `FileError` with the place of a mistake."""
    if path.suffix not in FORMS:
        raise FileError(Place(str(path)), f"its name tells its form: let it end with one of {', '.join(FORMS)}")
    text = read_text(path)
    if len(text) > _MOST:
        raise FileError(Place(str(path)), "it is longer than 1 MiB")
    match path.suffix:
        case ".toml":
            content: Any = parse_toml(path, text)
        case ".json":
            content = _from_json(path, text)
        case _:
            content = _from_yaml(path, text)
    if not isinstance(content, dict):
        raise FileError(Place(str(path), 1, 1), "it must be a table, as logging.config.dictConfig takes it")
    if content.get("version") != 1:
        raise FileError(Place(str(path), 1, 1), "it must contain version = 1, as logging.config.dictConfig wants it")
    return LogConfig(str(path), text, content)


def _from_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FileError(Place(str(path), error.lineno, error.colno), error.msg) from None
    except RecursionError:
        raise FileError(Place(str(path)), "it is nested too deeply") from None


def _from_yaml(path: Path, text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        reason = "PyYAML, which reads YAML, is not installed: pip install pyyaml, or write the file as TOML or JSON"
        raise FileError(Place(str(path)), reason) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = Place(str(path)) if mark is None else Place(str(path), mark.line + 1, mark.column + 1)
        raise FileError(place, problem or " ".join(str(error).split())) from None
    except RecursionError:
        raise FileError(Place(str(path)), "it is nested too deeply") from None
