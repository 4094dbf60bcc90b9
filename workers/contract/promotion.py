"""What a worker ends with that is to be a zygote from now on, instead of an exit code.

Returned by the workers' side; the supervisor's code that runs in the worker goes on with it.
"""

from __future__ import annotations

from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class Promotion:
    """The worker has drained, and what is left of it may be forked."""

    generation: int
    """Of the workers that it is to fork."""
