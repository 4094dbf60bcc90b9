"""epoll(7) as a poller; see `contract` for the clauses. The kernel removes a closed fd by itself."""

from __future__ import annotations

import select

_MAX_EVENTS = 512  # per wait; Python allocates 12 bytes for each of them in every call


class Poller:
    """`select.epoll`, level-triggered. READ, WRITE, ERROR and HANGUP are the kernel's own bits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def add(self, fd: int, mask: int) -> None:
        """Watch `fd`. Raises `FileExistsError`, `OSError` (EBADF, ENOMEM, ENOSPC, EPERM for a plain file)."""
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        """Replace the mask of `fd`. Raises `FileNotFoundError`."""
        try:
            self._epoll.modify(fd, mask)
        except OSError as error:
            raise FileNotFoundError(f"file descriptor {fd} is not watched") from error

    def remove(self, fd: int) -> None:
        """Stop watching `fd`; never raises."""
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError):  # closed, unknown, negative, or this poller is closed
            return

    def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the ready descriptors; `timeout` in seconds, None blocks. Python rounds it up to milliseconds."""
        if timeout is not None and timeout < 0:
            timeout = 0
        return self._epoll.poll(timeout, _MAX_EVENTS)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
