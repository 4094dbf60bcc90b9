"""Exceptions for an application that cannot be loaded, or not be forked into workers.

The workers' side raises them in the zygote, and the supervisor's code that runs there catches them.
"""

from __future__ import annotations


class CannotWarm(Exception):  # noqa: N818 - the application's fault or the environment's, not ours
    """The application cannot be loaded, and would fail again."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """A value of `Exit`."""
        self.reason = reason
        """One or a few lines for the user, as in `BootFailed`."""


class NotForkable(Exception):  # noqa: N818 - a property of the application, not an error
    """The application is loaded, but has something that does not survive a fork."""

    def __init__(self, findings: str) -> None:
        super().__init__(findings)
        self.findings = findings
        """For a log line, e.g. `2 live threads (Thread-1, Thread-2)`."""
