"""Keeping an error without the frames that its traceback keeps alive.

A frame keeps the sockets, files and bodies in its variables alive. If an object stores an error and one of the error's
frames refers to that object, they form a cycle: everything in it, such as an open connection, stays until a garbage
collection. Callers of those frames count too, because each frame refers to its caller.
"""

from __future__ import annotations


def without_own_frame(error: BaseException) -> BaseException:
    """Return `error` without the frame that has caught it, which may then keep the error in a variable."""
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)


def forget_frames(error: BaseException) -> None:
    """Drop the traceback of `error` and of all errors that led to it. For an error that has been logged.

    The application may keep the error: `task = create_task(work()); await task` is a cycle of frame, task and error.
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
