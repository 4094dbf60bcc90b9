"""The command line of `hybrid run`: sections of the help, defaults, variables, and the values passed to `Service`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click
import pytest
from support.rows import for_each

from hybrid import api
from hybrid.cli.commands import command, run
from hybrid.cli.sections import SectionedCommand
from hybrid.config.declaring import Section
from hybrid.config.service import Service

assert isinstance(run, SectionedCommand)
RUN: SectionedCommand = run

Parse = Callable[..., Service]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Return the `Service` for a command line."""

    def parse(*arguments: str) -> Service:
        seen: list[Service] = []

        def check(service: Service) -> str:
            seen.append(service)
            return "seen"

        monkeypatch.setattr(api, "check", check)
        command.main(["run", "--check", *arguments], standalone_mode=False)
        return seen[0]

    return parse


def test_the_defaults_of_the_command_are_those_of_a_service(parse: Parse) -> None:
    assert dataclasses.replace(parse(), bind=Service().bind) == Service()


def test_the_help_has_the_sections_in_order() -> None:
    lines = RUN.get_help(click.Context(RUN, info_name="run", **RUN.context_settings)).splitlines()
    headings = [line.removesuffix(":") for line in lines if line.removesuffix(":") in {item.value for item in Section}]
    assert headings == [item.value for item in Section]


@for_each(
    ("section", "options"),
    [
        (Section.PROCESS, {"--bind", "--workers", "--interface", "--factory"}),
        (Section.SERVICES, {"--command", "--stop-signal", "--depends", "--restart", "--on-failure"}),
        (Section.RECYCLING, {"--preload", "--refork-after", "--max-requests", "--max-restarts"}),
        (Section.STALLS, {"--stall-threshold", "--stall-report", "--stall-timeout"}),
        (Section.HOOKS, {"--hooks", "--ready-check-interval", "--on-event"}),
        (Section.HTTP, {"--threads", "--lifespan", "--root-path"}),
        (Section.LIMITS, {"--max-connections", "--max-body-size", "--keep-alive-timeout"}),
        (Section.TLS, {"--certfile", "--tls-handshake-timeout"}),
        (Section.PROXIES, {"--forwarded-allow-ips", "--forwarded-headers", "--forwarded-host", "--proxy-protocol"}),
        (Section.LOG, {"--log-level", "--access-log"}),
        (Section.OTHER, {"--help"}),
    ],
)
def test_an_option_is_in_its_section(section: Section, options: set[str]) -> None:
    under = dict(RUN.sections(click.Context(RUN, info_name="run", **RUN.context_settings)))[section]
    assert options <= {name for option in under for name in option.opts}


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--factory"], "factory", True),
        (["--threads", "4"], "threads", 4),
        (["--max-body-size", "16M"], "max_body_size", 16 << 20),
        (["--max-header-bytes", "64K"], "max_header_bytes", 65_536),
        (["--keep-alive-timeout", "500ms"], "keep_alive_timeout", 0.5),
        (["--no-server-header"], "server_header", False),
        (["--date-header"], "date_header", True),
        (["--no-websocket-compression"], "websocket_compression", False),
        (["--pathsend"], "pathsend", True),
        (["--underscore-headers"], "underscore_headers", True),
        (["--lifespan", "off"], "lifespan", "off"),
        (["--root-path", "/shop"], "root_path", "/shop"),
        (["--forwarded-allow-ips", "::1,unix", "--forwarded-allow-ips", "*"], "trusted_proxies", ("::1", "unix", "*")),
        (["--forwarded-allow-ips", "*", "--forwarded-headers", "forwarded"], "forwarded_headers", "forwarded"),
        (["--forwarded-allow-ips", "*", "--forwarded-host"], "forwarded_host", True),
        (["--access-log", "json"], "access_log", "json"),
        (["--access-log", "%(h)s:%(s)s"], "access_log", "%(h)s:%(s)s"),
        (["--access-log"], "access_log", "combined"),
        (["--access-log", "--pin"], "access_log", "combined"),
        (["--access-log", "app:app"], "access_log", "combined"),
        (["--access-log", "app:app"], "target", "app:app"),
        (["--access-log", "--", "app:app"], "target", "app:app"),
        (["--interface", "asgi"], "interface", "asgi"),
        (["--certfile", "c", "--keyfile", "k"], "keyfile", "k"),
    ],
)
def test_an_option_reaches_its_field(parse: Parse, arguments: list[str], field: str, value: Any) -> None:
    assert getattr(parse(*arguments), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("HYBRID_FACTORY", "1", "factory", True),
        ("HYBRID_SERVER_HEADER", "0", "server_header", False),
        ("HYBRID_MAX_BODY_SIZE", "1G", "max_body_size", 1 << 30),
        ("HYBRID_FORWARDED_ALLOW_IPS", "::1,unix 10.0.0.0/8", "trusted_proxies", ("::1", "unix", "10.0.0.0/8")),
        ("HYBRID_ACCESS_LOG", "common", "access_log", "common"),
        ("HYBRID_THREADS", "2", "threads", 2),
    ],
)
def test_a_variable_reaches_its_field(
    parse: Parse, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: Any
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(parse(), field) == value
