"""The errors of an offloaded call that are not the function's own."""

from __future__ import annotations


class OffloadError(RuntimeError):
    """An offloaded call has no result: it could not run, or its result or error could not be sent back."""


class OffloadDied(OffloadError):  # noqa: N818 - public names say what happened
    """The process that ran the call has died. The call may have had effects; it is not repeated unless asked for."""


class OffloadTimeout(OffloadError, TimeoutError):  # noqa: N818 - as above
    """The call did not end within its timeout, which counts from `hybrid.offload`. It is ended."""


class OffloadCancelled(OffloadError):  # noqa: N818 - as above
    """The call was cancelled, by `Job.cancel` or because this worker ends."""


class OffloadQueueFull(OffloadError):  # noqa: N818 - as above
    """`wait=False`, and `--offload-queue` calls wait already."""


class RemoteTraceback(Exception):  # noqa: N818 - it is shown, never raised
    """The traceback of an error in the other process: the `__cause__` of that error."""

    def __str__(self) -> str:
        return f"in the offload worker:\n{self.args[0]}"
