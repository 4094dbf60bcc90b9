"""The bookkeeping of a selector: which descriptors are registered, for which events, with which data.

This is asyncio's contract with its selector (`selectors.BaseSelector`) without the polling, which subclasses add.
"""

from __future__ import annotations

import selectors
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_VALID = frozenset({selectors.EVENT_READ, selectors.EVENT_WRITE, selectors.EVENT_READ | selectors.EVENT_WRITE})


class Registrations(selectors.BaseSelector):
    """A selector that reports changes to `_added`, `_changed` and `_removed`, and leaves `select` to its subclass."""

    def __init__(self) -> None:
        self._keys: dict[int, selectors.SelectorKey] = {}  # fd -> its registration

    @abstractmethod
    def _added(self, fd: int, events: int) -> None:
        """Poll for `events`. An exception undoes the registration."""

    @abstractmethod
    def _changed(self, fd: int, events: int) -> None:
        """Poll for `events` instead."""

    @abstractmethod
    def _removed(self, fd: int) -> None:
        """Stop polling; the descriptor may be closed. Must not raise."""

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a descriptor. Raises `ValueError` (events, descriptor), `KeyError` (twice), `OSError`."""
        _check(events)
        fd = _fd_of(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._added(fd, events)
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Forget a registration. Raises `KeyError`."""
        key = self._keys.pop(self._find(fileobj))
        self._removed(key.fd)
        return key

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Replace events and data. Raises `KeyError`, `ValueError`."""
        _check(events)
        fd = self._find(fileobj)
        if events != self._keys[fd].events:
            self._changed(fd, events)
        key = self._keys[fd] = self._keys[fd]._replace(events=events, data=data)
        return key

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Return the registration of `fileobj`. Raises `KeyError`."""
        return self._keys[self._find(fileobj)]

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return all registrations, by descriptor."""
        return self._keys  # type: ignore[return-value]  # asyncio (3.13) looks up integers only

    def _find(self, fileobj: FileDescriptorLike) -> int:
        """Return the descriptor `fileobj` was registered with, even if it is closed by now. Raises `KeyError`."""
        try:
            fd = _fd_of(fileobj)
        except ValueError:
            fd = -1
        if fd in self._keys:
            return fd
        for key in self._keys.values():
            if key.fileobj is fileobj:
                return key.fd
        raise KeyError(f"{fileobj!r} is not registered")


def _check(events: int) -> None:
    if events not in _VALID:
        raise ValueError(f"invalid events: {events!r}")


def _fd_of(fileobj: FileDescriptorLike) -> int:
    fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    if fd < 0:
        raise ValueError(f"invalid file descriptor: {fd}")
    return fd
