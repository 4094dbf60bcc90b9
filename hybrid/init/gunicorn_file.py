"""A `gunicorn.conf.py`, read by its syntax tree: settings as options of the command line, hooks, and the rest."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Any, Final

from hybrid.init.candidates import Names, UnreadableError, parse
from hybrid.init.command_lines import Given
from hybrid.init.equivalents import OTHERWISE
from hybrid.init.expressions import Known, NotUnderstoodError, evaluate
from hybrid.init.servers import GUNICORN

_OTHER_NAMES: Final = {
    "keepalive": "--keep-alive",
    "limit_request_field_size": "--limit-request-field_size",
    "reload_extra_files": "--reload-extra-file",
    "preload_app": "--preload",
    "sendfile": "",  # always used where it can be
    "raw_env": "--env",
    "pidfile": "--pid",
    "accesslog": "--access-logfile",
    "access_log_format": "--access-logformat",
    "errorlog": "--error-logfile",
    "loglevel": "--log-level",
    "logconfig": "--log-config",
    "logconfig_dict": "--log-config",
    "logconfig_json": "--log-config-json",
    "syslog": "--log-syslog",
    "proc_name": "--name",
    "default_proc_name": "--name",
    "proxy_allow_ips": "--proxy-allow-from",
    "uwsgi_allow_ips": "--uwsgi-allow-from",
    "secure_scheme_headers": "--forwarder-headers",
    "syslog_addr": "--log-syslog-to",
    "syslog_prefix": "--log-syslog-prefix",
    "syslog_facility": "--log-syslog-facility",
    "raw_paste_global_conf": "--paste-global",
    "dirty_apps": "--dirty-app",
    "control_socket_disable": "--no-control-socket",
    "tmp_upload_dir": "",
    "config": "",
}  # setting -> the option of the command line that means the same; empty: nothing to say
HOOKS: Final = {
    "on_starting": "no code runs in the supervisor: do it before the start, e.g. in ExecStartPre=",
    "on_reload": 'the event reload: on_event = "PROGRAM"; the module of the application is imported again',
    "when_ready": 'the event ready of each worker: on_event = "PROGRAM"; systemd is notified',
    "pre_fork": 'the hook zygote_warm, once for all workers: hooks = "MODULE"',
    "post_fork": 'the hook after_fork: hooks = "MODULE"',
    "post_worker_init": 'the hook worker_start: hooks = "MODULE"',
    "worker_int": 'the hook worker_drain: hooks = "MODULE"',
    "worker_abort": 'the event stall, with the line that blocks: on_event = "PROGRAM"; the log has it too',
    "pre_exec": 'the event upgrade: on_event = "PROGRAM"; at USR2 the original command is started again',
    "pre_request": "a middleware of the application",
    "post_request": "a middleware of the application; for statistics, the access log",
    "child_exit": 'the event death, with how the worker ended: on_event = "PROGRAM"',
    "worker_exit": 'the hook worker_stop: hooks = "MODULE"',
    "nworkers_changed": 'the event scale: on_event = "PROGRAM"',
    "on_exit": 'the event stop: on_event = "PROGRAM"',
    "ssl_context": "sni_hook",
}  # hook -> its counterpart; docs/hooks.md has the same table


@dataclasses.dataclass(frozen=True)
class Settings:
    """The content of a file."""

    options: tuple[Given, ...]
    target: str | None
    """`wsgi_app`."""
    remarks: tuple[str, ...]
    """Hooks and their counterparts; lines that are not understood."""


def read_settings(source: bytes) -> Settings:
    """Return the settings in the source of a `gunicorn.conf.py`. Raises `UnreadableError`."""
    reader = _Reader()
    try:
        for statement in parse(source).body:
            reader.take(statement)
    except RecursionError:
        raise UnreadableError("an expression is nested too deeply") from None
    return Settings(tuple(reader.options.values()), reader.target, tuple(reader.remarks))


class _Reader:
    def __init__(self) -> None:
        self.options: dict[str, Given] = {}  # setting -> option; of two the later one counts
        self.target: str | None = None
        self.remarks: list[str] = []
        self._names = Names()
        self._assigned: dict[str, Known] = {}

    def take(self, statement: ast.stmt) -> None:
        self._names.learn(statement)
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._assign(name, value, statement.lineno)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._assign(name, value, statement.lineno)
            case ast.FunctionDef(name=name) if name in HOOKS:
                self.remarks.append(f"{name} (line {statement.lineno}): {HOOKS[name]}")
            case (
                ast.Import()
                | ast.ImportFrom()
                | ast.FunctionDef()
                | ast.AsyncFunctionDef()
                | ast.ClassDef()
                | ast.Pass()
            ):
                pass
            case ast.Expr(value=ast.Constant()):  # a docstring
                pass
            case _:
                self.remarks.append(f"not understood: line {statement.lineno}")

    def _assign(self, name: str, node: ast.expr, line: int) -> None:
        flag = _flag(name)
        try:
            known = evaluate(node, self._names, self._assigned)
        except NotUnderstoodError:
            self._assigned.pop(name, None)
            self.options.pop(name, None)
            if name in HOOKS:
                self.remarks.append(f"{name} (line {line}): {HOOKS[name]}")
            elif flag in OTHERWISE:
                self.options[name] = Given(flag, None, name, f"line {line}")
            elif flag or name == "wsgi_app":
                self.remarks.append(f"not understood: line {line}: {name} = {ast.unparse(node)[:60]}")
            return
        self._assigned[name] = known
        if name == "wsgi_app" and isinstance(known.value, str):
            self.target = known.value
        elif flag:
            self.options.pop(name, None)
            for text in _texts(known.value):
                self.options[name] = Given(
                    flag,
                    ast.unparse(node) if known.is_of_cores else text,
                    name,
                    f"line {line}",
                    known.variables,
                    has_default=True,
                    is_of_cores=known.is_of_cores,
                )


def _flag(name: str) -> str:
    """Return the option that a setting is; empty for any other name."""
    flag = _OTHER_NAMES.get(name, f"--{name.replace('_', '-')}")
    return flag if flag in GUNICORN.takes_value or flag in GUNICORN.flags else ""


def _texts(value: Any) -> Iterator[str | None]:
    """Yield the value as on a command line: once, or not at all if it switches something off that is off."""
    match value:
        case None | False | [] | "":
            return
        case True:
            yield None
        case list():
            yield ",".join(map(str, value))
        case _:
            yield str(value)
