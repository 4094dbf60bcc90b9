"""Secrets in the environment: read once by the command, then removed, so that workers and programs do not get them."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from hybrid.config.declaring import declared
from hybrid.config.service import Service

_SECRETS: Final = tuple(option for option in declared(Service) if option.is_secret)

_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_libc.getenv.argtypes = (ctypes.c_char_p,)


def forget_secrets() -> None:
    """Remove the secrets from `os.environ` and from /proc/PID/environ, also of later children.

    unsetenv(3) only removes the variable from a list. The text stays where execve(2) put it, and the kernel shows that
    memory to every process of the same account (proc_pid_environ(5)). So the text is overwritten first.
    """
    for name in [name for name in os.environ if any(option.is_set_by(name) for option in _SECRETS)]:
        place = _libc.getenv(os.fsencode(name))
        if place:
            ctypes.memset(place, ord("x"), len(ctypes.string_at(place)))
        del os.environ[name]
