"""The interface of a loop, and how a loop is run from start to end; the same for a worker and for `hybrid.run`.

Importing this module imports no loop: gevent must patch the process before asyncio is first imported.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

    from hybrid.workers.runtime import Runtime

T = TypeVar("T")


class Driver(Protocol):
    """The interface of a loop.

    1. `prepare` changes the process as the loop needs it, before the application is imported.
    2. `new_loop` returns an asyncio loop.
    3. `runtime` returns the runtime over that loop; it is called in the greenlet that will run the loop.
    """

    name: str

    def prepare(self) -> None:
        """Clause 1; called once, before the other methods. May raise `OSError`."""
        ...

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Clause 2. Raises `OSError` (EMFILE, ENOMEM)."""
        ...

    def runtime(self, loop: asyncio.AbstractEventLoop) -> Runtime:
        """Clause 3."""
        ...


def run(
    driver: Driver,
    main: Callable[[Runtime], Coroutine[Any, Any, T]],
    survive: Callable[[SystemExit], None] | None = None,
) -> T:
    """Run `main(runtime)` on a new loop until it returns; then cancel the remaining tasks and close the loop.

    Blocks. Does not wait for threads of the default executor: a thread that hangs must not keep the process alive. A
    `SystemExit` from any other callback or task is passed to `survive`, and the loop continues; without `survive` it
    ends the loop. Raises any exception of `main`, and `RuntimeError` if a loop runs in this thread already.
    """
    import asyncio

    from hybrid.workers.common import lingering
    from hybrid.workers.runtime import entered

    loop = driver.new_loop()
    try:
        asyncio.set_event_loop(loop)
        with entered(driver.runtime(loop)) as runtime:
            try:
                return _run_main(loop, main(runtime), survive)
            finally:
                _cancel_all(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
                lingering.end_all(loop)
                runtime.close()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _run_main(
    loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T], survive: Callable[[SystemExit], None] | None
) -> T:
    """Run the loop until `main` ends. asyncio lets a SystemExit of any callback or task end the loop: continue then."""
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except SystemExit as error:
            if survive is None or task.done():
                raise
            survive(error)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        # A task may refuse to be cancelled; the process must end anyway
        loop.run_until_complete(asyncio.wait(tasks, timeout=1))
