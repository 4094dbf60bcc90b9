"""`AdminFields`: the options of a `Service` for those who watch it from outside: probes, metrics, the dashboard."""

from __future__ import annotations

import dataclasses
import importlib.util
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybrid.config.checks import DAY, ConfigError
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Count, Seconds, Switch, Text
from hybrid.config.logs import why_no_header
from hybrid.workers.http.settings import HttpSettings

if TYPE_CHECKING:
    from hybrid.config.service import Service

ADMIN: Final = "admin"
"""The name of the sidecar."""
SHARED: Final = ("admin", "admin_token", "admin_actions", "otel_endpoint", "otel_interval", "shutdown_delay")
"""The options that a supervisor has once for all its services."""
_SHORTEST_TOKEN: Final = 16
_ADMIN: Final = Section.ADMIN
_HTTP: Final = HttpSettings()
_UNIX: Final = re.compile(r"unix:.+")
_TCP: Final = re.compile(r"(\[[^]]+\]|[^:/]+):[0-9]{1,5}", re.ASCII)
_URL: Final = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?(/[^\s?#]*)?", re.ASCII)
_OTEL_PARTS: Final = ("sdk/metrics", "exporter/otlp/proto/http")  # of the package opentelemetry
_LAST_PORT: Final = 65_535


def _why_no_address(where: object) -> str | None:
    fine = isinstance(where, str) and (
        _UNIX.fullmatch(where) or (_TCP.fullmatch(where) and _port_of(where) <= _LAST_PORT)
    )
    return None if fine else f"{where!r}: use HOST:PORT or unix:/PATH, e.g. '127.0.0.1:9100'"


def _port_of(where: str) -> int:
    return int(where.rpartition(":")[2])


def _why_no_endpoint(where: object) -> str | None:
    if isinstance(where, str) and "@" in where:
        return "an account has no place in it: set the variable OTEL_EXPORTER_OTLP_HEADERS"  # it may be a secret
    match = _URL.fullmatch(where) if isinstance(where, str) else None
    if match is None or int(match["port"] or 0) > _LAST_PORT:
        return f"{where!r}: use http://HOST:PORT or https://HOST:PORT, e.g. 'http://127.0.0.1:4318'"
    return None


def _is_otel_installed() -> bool:
    """Return True if the packages are there; imports nothing, as the supervisor asks."""
    spec = importlib.util.find_spec("opentelemetry")
    places = [] if spec is None or spec.submodule_search_locations is None else spec.submodule_search_locations
    return all(any(Path(place, part).is_dir() for place in places) for part in _OTEL_PARTS)


def _why_no_token(token: object) -> str | None:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        return "use visible ASCII characters without spaces"
    return None if len(token) >= _SHORTEST_TOKEN else f"use at least {_SHORTEST_TOKEN} characters"


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class AdminFields:
    """Metrics, health and the dashboard, served by a process of its own."""

    admin: str | None = option(
        None,
        Text("ADDRESS"),
        _ADMIN,
        "Serve /metrics for Prometheus, /livez and /readyz for probes, and a dashboard at / here: HOST:PORT or "
        "unix:/PATH. A process of its own answers, so no probe waits behind a request of the application. An address "
        "that other machines can reach needs --admin-token.",
        check=_why_no_address,
    )
    admin_token: str | None = option(
        None,
        Text("TEXT"),
        _ADMIN,
        "Secret for everything at --admin but /livez and /readyz: a bearer token, or the password of the dashboard. "
        "At least 16 characters. Set it by the variable or in a file: other accounts can read a command line.",
        is_secret=True,
        check=_why_no_token,
    )
    admin_actions: bool = option(
        False, Switch(), _ADMIN, "Let the dashboard reload, scale and restart. Needs --admin-token."
    )
    admin_app_metrics: bool = option(
        True,
        Switch(),
        _ADMIN,
        "Add the metrics that the application makes with prometheus_client to /metrics of --admin, from all workers "
        "and companions of this service together.",
    )
    otel_endpoint: str | None = option(
        None,
        Text("URL"),
        _ADMIN,
        "Send the metrics of hybrid to an OpenTelemetry collector, by OTLP over HTTP: http://HOST:4318, to which "
        "/v1/metrics is added. The process of --admin sends them, so set that too. Needs the extra: pip install "
        "'hybrid-runtime[otel]'.",
        check=_why_no_endpoint,
    )
    otel_interval: float = option(60.0, Seconds(1, DAY), _ADMIN, "How often --otel-endpoint gets the metrics.")
    ready_min: int = option(
        1,
        Count(0, 1024),
        _ADMIN,
        "Workers of this service that must serve so that /readyz answers 200. 0: this service does not count.",
    )
    accounting: bool = option(
        False,
        Switch(),
        _ADMIN,
        "Count what requests cost the loop and the processor, by the label that the application gives them with "
        "hybrid.label or --label-header. See: hybrid status --labels.",
    )
    label_header: str | None = option(
        _HTTP.label_header,
        Text("NAME"),
        _ADMIN,
        "Take the label of a request from this header field of its response, e.g. X-Route, and do not send the field. "
        "Needs --accounting.",
        check=why_no_header,
    )
    shutdown_delay: float = option(
        0.0,
        Seconds(0, DAY),
        _ADMIN,
        "How long SIGTERM and hybrid stop wait before they stop anything. /readyz answers 503 meanwhile, so a load "
        "balancer sends new connections elsewhere. A second SIGTERM ends the wait.",
    )


def check_admin(service: Service) -> None:
    """Check the options together. Raises `ConfigError`."""
    if service.admin_actions and service.admin_token is None:
        raise ConfigError("admin_actions", "they need a secret: set --admin-token too")
    if service.admin is not None and service.admin_token is None and not is_private(service.admin):
        raise ConfigError("admin", f"{service.admin!r} can be reached from other machines: set --admin-token too")
    if service.label_header is not None and not service.accounting:
        raise ConfigError("label_header", "labels are counted with --accounting only: add it")
    if service.otel_endpoint is not None and not _is_otel_installed():
        raise ConfigError("otel_endpoint", "its packages are not installed: pip install 'hybrid-runtime[otel]'")
    if isinstance(service.workers, int) and service.ready_min > service.workers:
        raise ConfigError("ready_min", f"{service.ready_min} of {service.workers} workers can never serve")


def is_private(address: str) -> bool:
    """Return True if no other machine can reach an address: it is a UNIX socket, or a loopback address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
