"""The titles of our processes, for ps(1) and top(1).

With the package `setproctitle` installed, the command line shows the whole title. The name in the process table, which
has 15 bytes, is set in any case (PR_SET_NAME, prctl(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Iterator
from typing import Any, Final

ZYGOTE: Final = "hybrid-zygote"
"""The name of zygotes in the process table."""
_PREFIX: Final = "hybrid: "
_PR_SET_NAME, _PR_GET_NAME = 15, 16  # linux/prctl.h
_MOST = 15  # bytes; the kernel adds a zero
_libc = ctypes.CDLL(None, use_errno=True)


def of_worker(service: str, slot: int) -> None:
    """Show this process as a worker: `hybrid: web/0`."""
    _show(f"{_PREFIX}{service}/{slot}", short_name(service, slot))


def short_name(service: str, slot: int) -> bytes:
    """Return the name of a worker in the process table, of at most 15 bytes.

    `hybrid: ` is left out if it leaves too little room for the rest, as in `web.mailer/0`; then the service is cut, not
    the number of the slot.
    """
    end = f"/{slot}"
    whole = f"{_PREFIX}{service}{end}".encode()
    return whole if len(whole) <= _MOST else _cut(service, _MOST - len(end)) + end.encode()


def of_zygote(service: str) -> None:
    """Show this process as a zygote."""
    _show(f"{_PREFIX}{service} zygote", ZYGOTE.encode())


@contextlib.contextmanager
def of_supervisor(name: str) -> Iterator[None]:
    """Show this process as a supervisor, and as before afterwards.

    Imports `setproctitle` if it is installed, so that children need not.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("setproctitle")
    before, module = _name(), _module()
    title = None if module is None else module.getproctitle()
    _show(f"{_PREFIX}{name}", _PREFIX.encode() + _cut(name, _MOST - len(_PREFIX)))
    try:
        yield
    finally:
        if module is not None:
            module.setproctitle(title)
        _take(before)


def _show(title: str, name: bytes) -> None:
    if (module := _module()) is not None:
        module.setproctitle(title)
    _take(name)


def _module() -> Any:
    return sys.modules.get("setproctitle")


def _cut(text: str, most: int) -> bytes:
    """Return as many whole characters of a text as there is room for, in bytes."""
    return text.encode()[:most].decode(errors="ignore").encode()


def _name() -> bytes:
    buffer = ctypes.create_string_buffer(_MOST + 1)
    _libc.prctl(_PR_GET_NAME, buffer, 0, 0, 0)
    return buffer.value


def _take(name: bytes) -> None:
    _libc.prctl(_PR_SET_NAME, ctypes.create_string_buffer(name), 0, 0, 0)
