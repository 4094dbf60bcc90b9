"""What every poller promises, in seven clauses; `tests/contract/test_pollers.py` has one test per clause and poller.

1. **add(fd, mask)** starts to watch `fd` for the bits READ and WRITE of `mask`; 0 is allowed and still reports ERROR
   and HANGUP where the system call does. A second add of a watched fd raises `FileExistsError`; an fd that is not
   open, or too large for the system call, raises `OSError`, and nothing has changed.
2. **modify(fd, mask)** replaces the mask. An fd that is not watched raises `FileNotFoundError`.
3. **remove(fd)** stops watching. It never raises: a closed or unknown fd is what the caller wanted.
4. **wait(timeout)** returns a list of `(fd, mask)`, at most one entry per fd. `timeout` is in seconds: None blocks
   until something is ready, 0 or less does not block. It never returns early without an event: a timeout is rounded
   up, and a signal (EINTR) continues the wait after its Python handler ran (PEP 475).
5. **Level-triggered**: what is ready and not dealt with is reported again by the next wait.
6. **ERROR and HANGUP** are reported unasked by poll and epoll. select(2) knows neither: it reports such a descriptor
   as readable, which is why whoever waits to read must treat READ, ERROR and HANGUP alike: try, the next call tells.
7. **A watched fd that was closed** makes no wait raise and is reported at most once (as ERROR); then it is forgotten.
   Its number may be opened anew before that, so whoever closes an fd removes it first. After **close()** every method
   but close and remove raises `ValueError`.

A poller belongs to one thread. All methods but `wait` are cheap and never block.
"""

from __future__ import annotations

from typing import Protocol

# The bits of poll(2), which epoll(7) shares: the two pollers that matter need no translation.
READ = 0x001
WRITE = 0x004
ERROR = 0x008
HANGUP = 0x010


class Poller(Protocol):
    """See the clauses at the top of this file."""

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
