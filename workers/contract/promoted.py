"""The outcome of a worker that becomes a zygote; `body` returns it instead of an exit code.

The workers' side returns it, and the supervisor's code that runs in the worker continues with it.
"""

from __future__ import annotations

from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class Promoted:
    """The worker has drained, and its process may be forked."""

    generation: int
    """The generation of the workers that it will fork."""
