"""A steady load: clients that connect, ask and compare, again and again, until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.process import DEADLINE


class Load:
    """What the clients have seen so far."""

    def __init__(self) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._news = threading.Condition()
        self._is_over = False

    def run(self, request: Callable[[], object]) -> None:
        """Be one client: make requests until it is over. A failure is noted, and the next request made."""
        while not self._is_over:
            try:
                request()
            except (OSError, EOFError, ValueError, AssertionError) as error:
                with self._news:
                    self.failures.append(repr(error))
            else:
                with self._news:
                    self.answers += 1
                    self._news.notify_all()

    def wait_answers(self, count: int, deadline: float = DEADLINE) -> None:
        """Wait until `count` more requests have been answered."""
        with self._news:
            goal = self.answers + count
            assert self._news.wait_for(lambda: self.answers >= goal, deadline), f"{self.answers} of {goal} answers"

    def end(self) -> None:
        """Let no client begin another request."""
        self._is_over = True


@contextmanager
def loaded(request: Callable[[], object], clients: int = 4) -> Iterator[Load]:
    """Have `clients` threads make requests while the block runs; the last ones are over at its end."""
    load = Load()
    threads = [threading.Thread(target=load.run, args=(request,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.end()
        for thread in threads:
            thread.join()
