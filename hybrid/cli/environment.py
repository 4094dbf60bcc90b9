"""Secrets in the environment: read once by the command, then taken out, so that no worker and no program has them."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from hybrid.config.declaring import declared
from hybrid.config.service import Service

SECRETS: Final = tuple(name for option in declared(Service) if option.is_secret for name in option.variables)
"""Variables that only the command itself reads."""

_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_libc.getenv.argtypes = (ctypes.c_char_p,)


def forget_secrets() -> None:
    """Take the secrets out of `os.environ` and out of what /proc/PID/environ shows, also of later children.

    unsetenv(3) only takes the variable off a list: the text stays where execve(2) has put it, and that memory is what
    the kernel shows to every process of the same account (proc_pid_environ(5)). So the text is overwritten first.
    """
    for name in SECRETS:
        if name not in os.environ:
            continue
        place = _libc.getenv(os.fsencode(name))
        if place:
            ctypes.memset(place, ord("x"), len(ctypes.string_at(place)))
        del os.environ[name]
