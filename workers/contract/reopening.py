"""Puts reopened files of the log in the place of the old ones, in a child of the supervisor."""

from __future__ import annotations

import contextlib
import os
import posix
import stat
from collections.abc import Sequence


def replace(numbers: Sequence[int], descriptors: Sequence[int]) -> None:
    """Let each number name the file of a new descriptor, and close the new ones.

    Does nothing if some are missing, because this process could hold no more (EMFILE), and spares a number that the
    application has closed and uses for something else. `posix` stands in for `os`, whose `close` gevent patches.
    """
    if len(numbers) == len(descriptors):
        for number, fd in zip(numbers, descriptors, strict=True):
            with contextlib.suppress(OSError):
                if stat.S_ISREG(os.fstat(number).st_mode):
                    posix.dup2(fd, number, inheritable=False)
    for fd in descriptors:
        posix.close(fd)
