"""`Translation`: a service in the making, from the options of another server.

A value that hybrid would refuse becomes a remark: the service that is made can be run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hybrid.config.checks import ConfigError
from hybrid.config.declaring import Option, declared
from hybrid.config.kinds import Number, Parsed, Switch, Workers
from hybrid.config.service import Service
from hybrid.init.command_lines import Given
from hybrid.init.drafts import Line, ServiceDraft, Value
from hybrid.init.equivalents import OTHERWISE, SAME
from hybrid.init.servers import Server

OPTIONS: Final = {option.flag: option for option in declared(Service)}
"""Flag of hybrid -> its option."""
_BY_FIELD: Final = {option.field: option for option in declared(Service)}
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_CALL = re.compile(r"([\w.]+:[\w.]+)\((.*)\)", re.DOTALL)
PLACEHOLDER: Final = "myapp:app"
"""A target to be replaced by the user."""
_DEFAULTS: Final = {
    "workers": Line("workers", 1, "default; without this line: one per usable core"),
    "forwarded_allow_ips": Line("forwarded_allow_ips", "127.0.0.1", "default; without this line: no proxy is trusted"),
    "access_log": Line("access_log", "combined", "default; without this line: none"),
}
_DIFFERENT: Final = {
    "gunicorn": ("workers", "forwarded_allow_ips"),
    "uvicorn": ("workers", "forwarded_allow_ips", "access_log"),
    "hypercorn": ("workers",),
    "granian": ("workers",),
}  # server -> keys whose defaults differ here, which are suggested


@dataclasses.dataclass(frozen=True)
class Translated:
    """A service, and a line for each thing that has no equivalent."""

    service: ServiceDraft
    remarks: tuple[str, ...]


Rule = Callable[["Translation", Given], None]
"""Translates an option whose value means something else here."""


class Translation:
    """A service in the making: options are taken one after the other, then it is finished."""

    def __init__(self, server: Server, rules: Mapping[str, Rule]) -> None:
        self.server = server
        self._rules = rules
        self.remarks: list[str] = []
        self._lines: dict[str, Line] = {}
        self._given: dict[str, Given] = {}  # flag -> the last one
        self._binds: list[str] = []
        self._is_bound_by_port = False
        self._name: str | None = None

    # --- options

    def take(self, given: Given) -> None:
        """Translate one option, or remark on it."""
        self._given[given.flag] = given
        if self._is_from_environment(given):
            return
        rule = self._rules.get(given.flag)
        if rule is not None:
            rule(self, given)
            return
        flag = SAME.get(given.flag, given.flag)
        option = OPTIONS.get(flag) or OPTIONS.get(flag.replace("--no-", "--", 1))
        if option is not None and option.key is not None:
            self._set(option, typed(option, given, flag))
        else:
            self.remark(given, OTHERWISE.get(given.flag, "hybrid has no equivalent"))

    def _is_from_environment(self, given: Given) -> bool:
        """Deal with a value that comes from the environment; True if there is nothing more to do."""
        if given.is_of_cores and given.flag == "--workers":
            self._lines["workers"] = Line("workers", "auto", f"was {given.value}: one per usable core is enough")
            return True
        if not given.variables:
            return False
        if given.flag in ("--bind", "--port") and "PORT" in given.variables:
            self._is_bound_by_port = True
            return True
        if given.flag == "--workers" and "WEB_CONCURRENCY" in given.variables:
            return True  # hybrid reads it itself
        option = OPTIONS.get(SAME.get(given.flag, given.flag))
        here = option.variables[0] if option is not None and option.variables else None
        if here is not None:
            self.remark(given, f"comes from the variable {given.variables[0]}: set {here} instead")
        elif not given.has_default:
            self.remark(given, f"comes from the variable {given.variables[0]}: not translated")
        return not given.has_default

    def remark(self, given: Given, text: str) -> None:
        """Add a line about an option."""
        where = f" ({given.where})" if given.where else ""
        self.remarks.append(f"{given.name or given.flag}{where}: {_FLAG.sub(_as_key, text)}")

    def put(self, key: str, value: Value) -> None:
        """Set a key of the service."""
        self._set(next(option for option in OPTIONS.values() if option.key == key), value)

    def _set(self, option: Option, value: Value) -> None:
        key = str(option.key)
        before = self._lines.get(key)
        if option.is_repeated and before is not None and isinstance(value, tuple) and isinstance(before.value, tuple):
            value = before.value + value
        self._lines[key] = Line(key, value)

    def bind(self, address: str) -> None:
        """Add an address."""
        self._binds.append(address)

    def last(self, flag: str) -> Given | None:
        """Return an option that was given before; None if it was not."""
        return self._given.get(flag)

    def call(self, name: str) -> None:
        """Give the service a name of its own."""
        self._name = name

    # --- target and end

    def choose_target(self, targets: Iterable[str], guess: str | None) -> str:
        """Return the target, and remark if it had to be guessed."""
        first, *more = [*targets] or [""]
        self.remarks += [f"{word}: not translated" for word in more]
        if not first:
            self.remarks.append(
                f"no application is named: {guess} was found here, check it"
                if guess
                else f'no application is named: replace target = "{PLACEHOLDER}"'
            )
            return guess or PLACEHOLDER
        if first.count(":") == 2 and first.startswith(("asgi:", "wsgi:")):  # hypercorn
            self._lines["interface"] = Line("interface", first[:4])
            first = first[5:]
        match = _CALL.fullmatch(first)
        if match is not None:
            self._lines["factory"] = Line("factory", True)
            if match[2].strip():
                self.remarks.append(f"{first}: a factory is called without arguments: write one that passes {match[2]}")
            return match[1]
        return first if ":" in first else f"{first}:{self.server.attribute}"

    def finish(self, target: str, name: str) -> Translated:
        """Return the service: what hybrid refuses is left out, with a remark."""
        self._bind_all()
        if self.last("--access-logformat") is not None and self.last("--access-logfile") is None:
            self._lines.pop("access_log", None)  # a format alone logs nothing there
        lines = dict(self._lines)
        while (error := _refusal(target, lines)) is not None:
            option = _BY_FIELD.get(error.field)
            if option is None or option.key not in lines:
                self.remarks.append(f"{error.field}: {error.reason}")
                break
            self.remarks.append(f"{option.key}: left out: {error.reason}")
            del lines[option.key]
        suggestions = [
            dataclasses.replace(
                _DEFAULTS[key], is_comment=True, comment=f"{self.server.name}'s {_DEFAULTS[key].comment}"
            )
            for key in _DIFFERENT[self.server.name]
            if key not in lines
        ]
        return Translated(
            ServiceDraft(self._name or name, (Line("target", target), *lines.values(), *suggestions)),
            tuple(dict.fromkeys(self.remarks)),
        )

    def _bind_all(self) -> None:
        host, port = self.last("--host"), self.last("--port")
        if self._is_bound_by_port:
            self.remarks.append("the port comes from PORT: hybrid listens on 0.0.0.0 with that port by itself")
        elif host is not None or port is not None:
            address = (host and host.value) or "127.0.0.1"
            self.bind(f"{f'[{address}]' if ':' in address else address}:{(port and port.value) or 8000}")
        if self._binds:
            one, *more = dict.fromkeys(self._binds)
            self._lines = {"bind": Line("bind", (one, *more) if more else one), **self._lines}


def _as_key(match: re.Match[str]) -> str:
    """Return an option of hybrid as a key of the file."""
    option = OPTIONS.get(match[0])
    return str(option.key) if option is not None and option.key is not None else match[0]


def typed(option: Option, given: Given, flag: str) -> Value:
    """Return a value as the file has it."""
    text = given.value or ""
    if isinstance(option.kind, Switch):
        is_on = text.lower() not in ("false", "0", "no", "off") if given.value is not None else True
        return is_on and not flag.startswith("--no-")
    if option.is_repeated:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(option.kind, Number | Workers):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _refusal(target: str, lines: dict[str, Line]) -> ConfigError | None:
    """Return why hybrid would refuse the service; None if it would not."""
    values: dict[str, Any] = {}
    for option in OPTIONS.values():
        line = lines.get(str(option.key))
        if line is None or option.key == "chdir":  # it may be a directory of another machine
            continue
        value: Any = line.value
        if isinstance(option.kind, Parsed) and isinstance(value, str):
            try:
                value = option.kind.parse(value)
            except ValueError as error:
                return ConfigError(option.field, str(error))
        values[option.field] = value
    try:
        Service(target, **values)
    except ConfigError as error:
        return error
    return None
