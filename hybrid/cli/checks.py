"""What `hybrid check` does with the words of its command line: a service, or all services of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import click

from hybrid.api import BindError, Supervisor
from hybrid.checkup.collecting import collect, machine
from hybrid.checkup.findings import Finding, Level
from hybrid.checkup.judging import judge, judge_together
from hybrid.config.file import Document, FileError
from hybrid.config.service import ConfigError, Service


def words_to_check(words: Sequence[str], document: Document | None) -> Sequence[str | None]:
    """Return what to check: the words that were given, or the name of each service of the file."""
    if words:
        return words
    return [None] if document is None or not document.services else list(document.services)


def check_all(
    words: Sequence[str | None],
    make: Callable[[str | None], Service],
    shown: Callable[[ConfigError], str],
    forget: Callable[[], None],
) -> list[Finding]:
    """Return the findings about all services. Blocks while their targets are loaded.

    `make` returns the service that a word means, `shown` an error of an option in the words of the command line.
    `forget` is called once all services are made, before code of the application runs.
    """
    findings: list[Finding] = []
    services: list[Service] = []
    for word in words:
        try:
            services.append(make(word))
        except ConfigError as error:
            findings.append(Finding(Level.ERROR, "options", shown(error), word or ""))
        except (FileError, BindError, click.UsageError) as error:
            text = error.format_message() if isinstance(error, click.UsageError) else str(error)
            findings.append(Finding(Level.ERROR, "options", text, word or ""))
    forget()
    limits = machine(os.environ)
    tried: set[str | None] = set()
    for service in services:
        findings += judge(collect(service, limits, admin=None if service.admin in tried else service.admin))
        tried.add(service.admin)
    together = judge_together(services)
    is_fine = len(services) == len(words) and all(one.level is not Level.ERROR for one in (*findings, *together))
    if is_fine:
        together = _together(services, shown)
    return findings + together


def _together(services: Sequence[Service], shown: Callable[[ConfigError], str]) -> list[Finding]:
    """Return what a supervisor of all these services would refuse."""
    try:
        Supervisor(*services)
    except ConfigError as error:
        if not any(error.reason.startswith(f"service {service.name}: ") for service in services):
            return [Finding(Level.ERROR, "services", shown(error), "")]
        name = error.reason.removeprefix("service ").partition(": ")[0]
        return [Finding(Level.ERROR, error.field, error.reason.partition(": ")[2], name)]
    return []
