"""`LogFields`: the options of a `Service` about its log and its access log, and the contradictions among them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hybrid.config.checks import ConfigError
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Choice, File, Switch, Text
from hybrid.workers.http.settings import HttpSettings

if TYPE_CHECKING:
    from hybrid.config.service import Service

ACCESS_LOGS: Final = ("common", "combined", "json")
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_HTTP: Final = HttpSettings()
_LOG: Final = Section.LOG
_PATH: Final = re.compile(r"/[!-\"$->@-~]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_TAKEN: Final = frozenset(
    {
        *("connection", "content-length", "content-type", "cookie", "date", "expect", "forwarded", "host"),
        *("keep-alive", "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Header fields, in lower case, that have a meaning of their own."""


def _why_no_paths(given: object) -> str | None:
    paths = (given,) if isinstance(given, str) else given
    if not isinstance(paths, Sequence):
        return f"{given!r}: give paths as text, e.g. '/livez'"
    strange = [one for one in paths if not (isinstance(one, str) and _PATH.fullmatch(one))]
    return f"{strange[0]!r}: give a path as clients send it, without a query, e.g. '/livez'" if strange else None


def why_no_header(name: object) -> str | None:
    """Return why a value cannot name a header field of an operator's choice; None if it can."""
    if isinstance(name, str) and _HEADER.fullmatch(name):
        is_taken = name.lower() in _TAKEN
        return f"{name} has a meaning of its own: choose another name" if is_taken else None
    return f"{name!r}: give the name of a header field of letters, digits and dashes, e.g. 'X-Request-ID'"


def _why_no_access_log(log: object) -> str | None:
    if log in ACCESS_LOGS or (isinstance(log, str) and "%(" in log):
        return None
    return f"{log!r}: use {', '.join(ACCESS_LOGS)}, or a format with fields such as %(h)s"


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class LogFields:
    """What is logged, in which form, and where."""

    log_format: str = option("text", Choice(LOG_FORMATS), _LOG, "Form of the log.")
    log_level: str = option("info", Choice(LOG_LEVELS), _LOG, "Least important records to log.")
    log_file: str | os.PathLike[str] | None = option(
        None,
        File(),
        _LOG,
        "Append the log to this file. SIGUSR1 opens it again, after a rotation.",
        shown="standard error",
    )
    log_config: str | os.PathLike[str] | None = option(
        None,
        File(),
        _LOG,
        "Configure `logging` in each worker before TARGET is imported: a file for logging.config.dictConfig in TOML, "
        "JSON, or YAML (needs PyYAML).",
    )
    log_capture: bool = option(
        False,
        Switch(),
        _LOG,
        "Log what workers print, log and warn of, and what their subprocesses and C code write, as lines of the log.",
    )
    access_log: str | None = option(
        _HTTP.access_log,
        Text("[FORMAT]"),
        _LOG,
        "Write a line to stdout for every request, refused ones included, and for every WebSocket when it ends: "
        "common, combined, json, or a format with fields such as %(h)s. Without FORMAT: combined.",
        alone="combined",
        check=_why_no_access_log,
    )
    access_log_file: str | os.PathLike[str] | None = option(
        None,
        File(),
        _LOG,
        "Append the access log to this file. SIGUSR1 opens it again, after a rotation. Needs --access-log.",
        shown="standard output",
    )
    access_log_skip: str | Sequence[str] = option(
        _HTTP.access_log_skip,
        Text("PATH"),
        _LOG,
        "Leave requests of this path out of the access log, e.g. /livez; with a slash at its end, all paths that begin "
        "with it, e.g. /static/. May be repeated.",
        is_repeated=True,
        shown="none",
        check=_why_no_paths,
    )
    request_id_header: str | None = option(
        _HTTP.request_id_header,
        Text("NAME"),
        _LOG,
        "Give each request an id in this header field, e.g. X-Request-ID: the one that a proxy of "
        "--forwarded-allow-ips has sent, or a new one. The application, the response, the logs and stacks have it.",
        check=why_no_header,
    )

    @property
    def skipped_paths(self) -> tuple[str, ...]:
        """The paths that are not in the access log, always as a tuple."""
        return (self.access_log_skip,) if isinstance(self.access_log_skip, str) else tuple(self.access_log_skip)


def check_logs(service: Service) -> None:
    """Check that the options are compatible with each other. Raises `ConfigError`."""
    if service.access_log_file is not None and service.access_log is None:
        raise ConfigError("access_log_file", "it needs an access log: add --access-log")
