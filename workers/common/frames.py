"""The frames that an error keeps alive by its traceback: how to keep an error without them.

A frame keeps the sockets, files and bodies in its variables. An error that is kept by something which one of its own
frames refers to is a cycle: all of that would stay until a garbage collection, and with it an open connection. A frame
counts here as well if it only called one of the traceback's: each frame keeps the one that called it.
"""

from __future__ import annotations


def without_own_frame(error: BaseException) -> BaseException:
    """Return `error` without the frame that has caught it, which is to keep the error in one of its variables."""
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)


def forget_frames(error: BaseException) -> None:
    """Take the traceback from `error` and from all errors that led to it. For an error that has been logged.

    The application may keep it: `task = create_task(work()); await task` is a cycle of frame, task and error.
    """
    found = [error]
    seen = set()
    while found:
        error = found.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        error.__traceback__ = None
        found += [led for led in (error.__cause__, error.__context__) if led is not None]
        if isinstance(error, BaseExceptionGroup):
            found += error.exceptions
