"""`Supervisor`: runs services, in this process or in a child process.

`Supervisor(web, chat).run()`: this process becomes the supervisor until it is asked to stop.
`with Supervisor(web, chat) as running:` the supervisor runs in a child process until the block ends.

Only this module and its neighbours (plan, embedding, checking, loops) use both the supervisor and the workers.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import ModuleType, TracebackType
from typing import Self

from hybrid.checking import CheckError, check
from hybrid.config.service import Service
from hybrid.config.travel import is_importing_main
from hybrid.demonstration.hints import logging_hints
from hybrid.embedding import EmbeddedSupervisor
from hybrid.loops import LoopRow, list_loops
from hybrid.plans import Plans
from hybrid.supervisor.contact.control import StartError
from hybrid.supervisor.core.status import Status
from hybrid.supervisor.listeners.sockets import BindError, systemd_binds
from hybrid.supervisor.start import supervise
from hybrid.supervisor.upgrade.handover import inherited_binds
from hybrid.supervisor.upgrade.succession import Origin
from hybrid.workers.contract.exits import Exit

_START_MARGIN = 30.0  # seconds to start an interpreter on a loaded machine


class Supervisor:
    """Runs services, either by `run()` or as a context manager; one supervisor at a time.

    Raises `ConfigError` on construction for an invalid address, loop or account, or services that do not fit together.
    """

    def __init__(
        self,
        *services: Service,
        start_timeout: float | None = None,
        name: str | None = None,
        reread: Callable[[], Sequence[Service]] | None = None,
    ) -> None:
        """`services`: at least one; each has a name of its own. `name`: of the supervisor; None: of the first one.

        `reread` returns the services as they are configured now, or raises `ValueError`; `run` calls it when a reload
        is asked for. With None, a reload starts the same services with new code.

        `start_timeout`: seconds until `__enter__` gives up; None: as long as the supervisor itself keeps trying.
        """
        self.services = services
        self.name = name or (services[0].name if services else "")
        self._start_timeout = start_timeout
        self._reread = reread
        self._embedded: EmbeddedSupervisor | None = None
        self._addresses: tuple[str, ...] = ()
        self._plans(travels=False)  # only to report mistakes now, not in `run` or `with`

    def run(self) -> Exit:
        """Be the supervisor until a signal stops the service; return the exit code, for `sys.exit`.

        Blocks. Changes the working directory if the service sets one, and handles the signals meanwhile. Must be
        called in the main thread and not inside a running asyncio loop; raises `RuntimeError` otherwise. Threads of
        this process do not exist in the workers it forks; the context manager has no such hazard.
        """
        _check_may_become_supervisor()
        intended = dataclasses.replace(self._plans(travels=False), reread=self._reread)
        origin = Origin.of_this_process(os.environ)
        intended.enter()
        demonstrations = [one.name for one in self.services if one.is_demonstration]
        with logging_hints(demonstrations) if demonstrations else nullcontext():
            return supervise(intended.deployment, origin=origin)

    def __enter__(self) -> Self:
        """Start the supervisor in a child process and wait until all workers are ready.

        Raises `StartError` with exit code and reason if the start fails or `start_timeout` has passed.
        """
        if self._embedded is not None:
            raise RuntimeError("this Supervisor is running already: make another one")
        _check_may_start()
        intended = self._plans(travels=True)
        patience = self._start_timeout
        if patience is None:
            patience = intended.patience + _START_MARGIN
        self._embedded = EmbeddedSupervisor(intended)
        try:
            self._addresses = self._embedded.wait_started(patience)
        except TimeoutError:
            self._end(graceful=False, timeout=None)
            raise StartError(Exit.BOOT, f"the workers were not ready within {patience:g} s") from None
        except BaseException:
            self._end(graceful=False, timeout=None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gracefully. A Ctrl-C meanwhile stops at once."""
        if self._embedded is None:
            return
        try:
            self.stop()
        except KeyboardInterrupt:
            self._end(graceful=False, timeout=None)
            raise

    @property
    def service(self) -> Service:
        """The first service."""
        return self.services[0]

    def _plans(self, *, travels: bool) -> Plans:
        return Plans.of(self.services, travels=travels, name=self.name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The real addresses, as a person types them: port 0 is replaced by the actual port. Empty before the start."""
        return self._addresses

    @property
    def pid(self) -> int:
        """Process id of the supervisor. Raises `RuntimeError` if it does not run as a child process."""
        return self._running().pid

    def status(self, timeout: float = 10.0, *, service: str = "") -> Status:
        """Return the current status of a service: addresses, and each worker's slot, generation, pid and state.

        `service`: its name; empty: the first one. Raises `ValueError` for a name that no service has.

        Blocks at most `timeout` seconds. Raises `TimeoutError`, `ConnectionError` if the supervisor is gone, and
        `RuntimeError` if none was started.
        """
        return self._running().status(timeout, self._named(service).name)

    def scale(self, workers: int, timeout: float | None = None, *, service: str = "") -> None:
        """Change the number of workers of a service and wait until new ones are ready and superfluous ones gone.

        `service`: as for `status`.

        Blocks at most `timeout` seconds (None: the sum of boot deadline and drain deadline). Raises the errors of
        `status`, `TypeError` if `workers` is not a whole number, and `ValueError` if it is less than one.
        """
        try:
            workers = operator.index(workers)
        except TypeError:
            raise TypeError(f"{workers!r} workers: use a whole number, at least 1") from None
        if workers < 1:
            raise ValueError(f"{workers} workers: use at least 1")
        chosen = self._named(service)
        if timeout is None:
            timeout = chosen.boot_timeout + chosen.graceful_timeout + _START_MARGIN
        self._running().scale(workers, timeout, chosen.name)

    def stop(self, graceful: bool = True, timeout: float | None = None) -> Exit:
        """Stop the service and wait for its end; return the exit code. Does nothing if it is stopped already.

        `graceful` lets the workers finish their connections for at most `graceful_timeout` seconds. After `timeout`
        seconds (None: a little more than that) all remaining processes are killed.
        """
        if self._embedded is None:
            return Exit.OK
        return self._end(graceful=graceful, timeout=timeout)

    def _end(self, *, graceful: bool, timeout: float | None) -> Exit:
        embedded = self._running()
        code = embedded.stop(graceful=graceful, timeout=timeout)
        self._embedded = None
        return code

    def _named(self, name: str) -> Service:
        for service in self.services:
            if name in ("", service.name):
                return service
        known = ", ".join(service.name for service in self.services)
        raise ValueError(f"there is no service {name!r}: use one of {known}")

    def _running(self) -> EmbeddedSupervisor:
        if self._embedded is None:
            raise RuntimeError("the supervisor does not run: use it as a context manager, `with Supervisor(service):`")
        return self._embedded


def _check_may_start() -> None:
    if is_importing_main():
        raise RuntimeError(
            "a worker imports this program for its application and must not start the service again: "
            'put the code that starts it below `if __name__ == "__main__":`'
        )


def _check_may_become_supervisor() -> None:
    _check_may_start()
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "run() must be called in the main thread: Python delivers signals only there; "
            "from another thread use the context manager, `with Supervisor(service):`"
        )
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and _runs_a_loop(asyncio):
        raise RuntimeError(
            "run() must not be called inside a running asyncio loop, whose descriptors the workers would share; "
            "use the context manager, `with Supervisor(service):`, in a thread (asyncio.to_thread)"
        )


def _runs_a_loop(asyncio: ModuleType) -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


__all__ = [
    "BindError",
    "CheckError",
    "Exit",
    "LoopRow",
    "StartError",
    "Status",
    "Supervisor",
    "check",
    "inherited_binds",
    "list_loops",
    "systemd_binds",
]
