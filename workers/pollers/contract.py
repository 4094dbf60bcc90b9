"""The contract of a poller, in seven clauses; `tests/contract/test_pollers.py` has one test per clause and poller.

1. **add(fd, mask)** starts to watch `fd` for the bits READ and WRITE of `mask`; 0 is allowed and still reports ERROR
   and HANGUP if the system call does. A second add of a watched fd raises `FileExistsError`; an fd that is not open, or
   too large for the system call, raises `OSError`, and nothing has changed.
2. **modify(fd, mask)** replaces the mask. An fd that is not watched raises `FileNotFoundError`.
3. **remove(fd)** stops watching. It never raises: for a closed or unknown fd the work is already done.
4. **wait(timeout)** returns a list of `(fd, mask)`, at most one entry per fd. `timeout` is in seconds: None blocks
   until something is ready, 0 does not block, and a negative one is not allowed. It never returns early without an
   event: a timeout is rounded up, and a signal (EINTR) continues the wait after its Python handler ran (PEP 475).
5. **Level-triggered**: a descriptor that is still ready is reported again by the next wait.
6. **ERROR and HANGUP** are reported unasked by poll and epoll. select(2) knows neither and reports such a descriptor as
   readable. So a reader must treat READ, ERROR and HANGUP alike: the next system call tells them apart.
7. **A watched fd that was closed** makes no wait raise and is reported at most once (as ERROR); then it is forgotten.
   Its number may be reused before that, so a caller removes an fd before closing it. After **close()** every method but
   close and remove raises `ValueError`.

A poller belongs to one thread. All methods but `wait` are cheap and never block.
"""

from __future__ import annotations

from typing import Protocol

# The bits of poll(2), which epoll(7) shares: the two faster pollers need no translation.
READ = 0x001
WRITE = 0x004
ERROR = 0x008
HANGUP = 0x010


class Poller(Protocol):
    """See the clauses in the module's docstring."""

    def add(self, fd: int, mask: int) -> None:
        """Clause 1."""
        ...

    def modify(self, fd: int, mask: int) -> None:
        """Clause 2."""
        ...

    def remove(self, fd: int) -> None:
        """Clause 3."""
        ...

    def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Clauses 4 to 7."""
        ...

    def close(self) -> None:
        """Clause 7; may be called twice."""
        ...
