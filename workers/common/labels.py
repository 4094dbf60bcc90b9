"""`hybrid.label`: the application names the part of it that a request belongs to.

Light: an application may import it in any process. What is counted by label is in `accounting`.
"""

from __future__ import annotations

import contextvars
from typing import Protocol

from hybrid.workers.contract.label_counts import why_no_label


class Labelled(Protocol):
    """A request that takes a label."""

    label: str | None


REQUEST: contextvars.ContextVar[Labelled | None] = contextvars.ContextVar("hybrid.request", default=None)
"""The request that the running code belongs to; None without accounting, and outside of requests."""


def label(name: str) -> None:
    """Count the current request under this label: the name of the part of the application that it belongs to.

    Call it anywhere in the request: in its greenlet, its thread, its task, or in tasks and threads that have its
    context. The last call counts, for all that the request has cost. A label has 1 to 64 visible ASCII characters, with
    spaces between them. A service has 64 labels; requests with further ones are counted as `other`.

    Without the option `--accounting`, and outside of a request, it only checks the name. Never blocks. Raises
    `ValueError` for a name that cannot be a label.
    """
    if (reason := why_no_label(name)) is not None:
        raise ValueError(reason)
    request = REQUEST.get()
    if request is not None:
        request.label = name
