"""Why a process that has imported the application cannot be forked into workers.

Raised by the workers' side, in the zygote; caught by the supervisor's code that runs there.
"""

from __future__ import annotations


class CannotWarm(Exception):  # noqa: N818 - the application's fault or the environment's, not ours
    """The application cannot be loaded, and a second try would fail alike."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """A value of `Exit`."""
        self.reason = reason
        """One or a few lines for a person, as in `BootFailed`."""


class NotForkable(Exception):  # noqa: N818 - a property of the application, not an error
    """The application is loaded, but holds what does not survive a fork."""

    def __init__(self, findings: str) -> None:
        super().__init__(findings)
        self.findings = findings
        """For a log line, e.g. `2 live threads (Thread-1, Thread-2)`."""
