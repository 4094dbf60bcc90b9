"""A supervisor from its settings to its exit code: opens the sockets, runs the loop, and cleans up."""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading

from hybrid.supervisor.children.kernel import Kernel, LinuxKernel
from hybrid.supervisor.children.snapshot import Snapshot
from hybrid.supervisor.children.spawn import Program, flush_streams, occupy_standard_descriptors
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.sockets import open_listeners
from hybrid.supervisor.loop import Shell
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.upgrade.inheritance import Inheritance
from hybrid.supervisor.upgrade.succession import Origin, Succession
from hybrid.workers.contract import log
from hybrid.workers.contract.exits import Exit

logger = logging.getLogger(log.LOGGER_NAME)


def supervise(
    settings: Settings, program: Program, *, control: Control | None = None, origin: Origin | None = None
) -> Exit:
    """Run the supervisor: open the sockets, run `program` in workers, and return the exit code.

    Blocks for the life of the service. Call it in the main thread of a process without other threads (it forks);
    `RuntimeError` otherwise. Restores signal handlers, wake-up descriptor and mask at the end, and closes `control`.
    `origin` describes how this process was started; without it, it cannot be upgraded.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a supervisor must run in the main thread: only there can Python handle signals")
    occupy_standard_descriptors()
    log.configure(settings.log_format, settings.log_level, {"service": settings.service})
    flush_streams()  # otherwise each worker writes the buffered output again
    kernel = LinuxKernel()
    snapshot = Snapshot.take()
    gc.collect()
    gc.freeze()  # otherwise a zygote's first collection writes to, and so copies, every page with an object of ours
    try:
        with snapshot.in_use():
            return run(settings, program, kernel, control, origin)
    finally:
        gc.unfreeze()
        kernel.close()
        if control is not None:
            control.close()


def run(
    settings: Settings, program: Program, kernel: Kernel, control: Control | None, origin: Origin | None = None
) -> Exit:
    """Run `supervise` over any kernel."""
    inheritance = None if origin is None else origin.inheritance
    predecessor = None if inheritance is None else inheritance.predecessor_pid
    configured = settings.workers
    if inheritance is not None:
        settings = _scaled(settings, inheritance)
    try:
        pidfile = None if settings.pidfile is None else Pidfile(settings.pidfile, predecessor)
    except PidfileError as error:
        return _refuse(Exit.ERROR, str(error), control)
    try:
        with open_listeners(settings, inheritance) as listeners:
            for address in listeners.addresses:
                logger.info("listening on %s", address)
            succession = Succession(origin or Origin(), listeners, pidfile)
            return Shell(settings, program, kernel, listeners, succession, configured, control).run()
    except BindError as error:
        return _refuse(error.code, str(error), control)
    finally:
        if pidfile is not None:
            pidfile.release()


def _scaled(settings: Settings, inheritance: Inheritance) -> Settings:
    """Return the settings with the number of workers that the predecessor was scaled to."""
    scale = inheritance.scale
    workers = settings.workers if scale is None else scale.for_successor(settings.workers)
    if workers == settings.workers:
        return settings
    logger.info("upgrading: %d workers, as before; --workers says %d", workers, settings.workers)
    return dataclasses.replace(settings, workers=workers)


def _refuse(code: Exit, reason: str, control: Control | None) -> Exit:
    logger.error("%s", reason)
    if control is not None:
        control.ended(code, reason)
    return code
