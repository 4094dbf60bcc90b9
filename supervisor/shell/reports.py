"""Writes the reports of the machines and of the tree to the log."""

from __future__ import annotations

import logging

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.tree import ALL
from hybrid.supervisor.shell.happenings import Happenings
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)


class Reports:
    """The log of what was decided."""

    def __init__(self, happenings: Happenings) -> None:
        self._happenings = happenings
        self.reason = ""
        """The text of the newest error."""

    def write(self, service: str, report: ev.Report) -> None:
        """Log a report about a service, or about the whole (`ALL`)."""
        level = logging.getLevelNamesMapping()[report.level.value]
        if report.level is ev.Level.ERROR:
            self.reason = report.text
        labels = {"slot": report.slot, "generation": report.generation, "subject_pid": report.pid}
        if service != ALL:
            labels["service"] = service
        logger.log(level, "%s", report.text, extra=labels)
        self._happenings.report(service, report)
