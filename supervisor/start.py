"""A supervisor from its deployment to its exit code: opens the sockets, runs the loop, and cleans up."""

from __future__ import annotations

import dataclasses
import functools
import gc
import logging
import threading
from collections.abc import Mapping

from hybrid.supervisor.children import titles
from hybrid.supervisor.children.kernel import Kernel, LinuxKernel
from hybrid.supervisor.children.log_files import LogFileError, LogFiles
from hybrid.supervisor.children.metric_files import MetricFiles
from hybrid.supervisor.children.snapshot import Snapshot
from hybrid.supervisor.children.spawn import flush_streams, occupy_standard_descriptors
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.deployment import Deployment, ServiceSpec
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.estate import Estate
from hybrid.supervisor.loop import Shell
from hybrid.supervisor.shell.operators import open_control
from hybrid.supervisor.upgrade.inheritance import Inheritance, Scale
from hybrid.supervisor.upgrade.succession import Origin, Succession
from hybrid.workers.contract import log
from hybrid.workers.contract.exits import Exit

logger = logging.getLogger(log.LOGGER_NAME)


def supervise(deployment: Deployment, *, control: Control | None = None, origin: Origin | None = None) -> Exit:
    """Run the supervisor: open the sockets, run the programs in workers, and return the exit code.

    Blocks for the life of the services. Call it in the main thread of a process without other threads (it forks);
    `RuntimeError` otherwise. Restores signal handlers, wake-up descriptor and mask at the end, and closes `control`.
    `origin` describes how this process was started; without it, it cannot be upgraded.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a supervisor must run in the main thread: only there can Python handle signals")
    occupy_standard_descriptors()
    files = LogFiles()
    try:
        _start_log(deployment, files)
    except LogFileError as error:
        return _give_up(str(error), control)
    flush_streams()  # otherwise each worker writes the buffered output again
    kernel = LinuxKernel()
    snapshot = Snapshot.take()
    gc.collect()
    gc.freeze()  # otherwise a zygote's first collection writes to, and so copies, every page with an object of ours
    try:
        with snapshot.in_use(), titles.of_supervisor(deployment.name):
            return run(deployment, kernel, control, origin, files)
    finally:
        gc.unfreeze()
        kernel.close()
        _log_to(deployment, 2)
        files.close()
        if control is not None:
            control.close()


def _start_log(deployment: Deployment, files: LogFiles) -> None:
    """Log to the file of the deployment, or to standard error. Raises `LogFileError`; then to standard error."""
    _log_to(deployment, 2)
    log_file = deployment.first.log_file
    if log_file is not None:
        _log_to(deployment, files.open(deployment.first).log_fd)


def _log_to(deployment: Deployment, fd: int) -> None:
    log.configure(deployment.first.log_format, deployment.first.log_level, {"service": deployment.name}, fd)


def _give_up(reason: str, control: Control | None) -> Exit:
    """Refuse to start before anything is open."""
    try:
        return _refuse(Exit.ERROR, reason, control)
    finally:
        if control is not None:
            control.close()


def run(
    deployment: Deployment,
    kernel: Kernel,
    control: Control | None,
    origin: Origin | None = None,
    files: LogFiles | None = None,
) -> Exit:
    """Run `supervise` over any kernel. `files`: those of the log; None: none is open yet."""
    files = files or LogFiles()
    inheritance = None if origin is None else origin.inheritance
    predecessor = None if inheritance is None else inheritance.predecessor_pid
    configured = deployment.workers
    metric_files = MetricFiles("" if origin is None else origin.metrics_home)
    if inheritance is not None:
        deployment = _scaled(deployment, inheritance.scales)
    try:
        pidfile = None if deployment.pidfile is None else Pidfile(deployment.pidfile, predecessor)
    except PidfileError as error:
        return _refuse(Exit.ERROR, str(error), control)
    try:
        with Estate() as estate:
            for spec in deployment.services:
                files.open(spec.settings)
                _open(estate, spec, inheritance)
            if inheritance is not None:
                inheritance.close_unused()
            succession = Succession(origin or Origin(), estate, pidfile, lambda: metric_files.home)
            listen = functools.partial(open_control, deployment, is_heir=inheritance is not None)
            shell = Shell(deployment, kernel, estate, succession, control, listen, files, metric_files)
            for spec in deployment.services:
                shell.add(spec, configured[spec.settings.service])
            return shell.run()
    except BindError as error:
        return _refuse(error.code, str(error), control)
    except LogFileError as error:
        return _refuse(Exit.ERROR, str(error), control)
    finally:
        metric_files.end()
        if pidfile is not None:
            pidfile.release()


def _open(estate: Estate, spec: ServiceSpec, inheritance: Inheritance | None) -> None:
    for address in estate.open(spec.settings, inheritance).addresses:
        logger.info("listening on %s", address, extra={"service": spec.settings.service})


def _scaled(deployment: Deployment, scales: Mapping[str, Scale]) -> Deployment:
    """Return the deployment with the numbers of workers that the predecessor was scaled to."""
    services = tuple(_scaled_service(spec, scales.get(spec.settings.service)) for spec in deployment.services)
    return dataclasses.replace(deployment, services=services)


def _scaled_service(spec: ServiceSpec, scale: Scale | None) -> ServiceSpec:
    settings = spec.settings
    workers = settings.workers if scale is None else scale.for_successor(settings.workers)
    if workers == settings.workers:
        return spec
    text = "upgrading: %d workers, as before; --workers says %d"
    logger.info(text, workers, settings.workers, extra={"service": settings.service})
    return dataclasses.replace(spec, settings=dataclasses.replace(settings, workers=workers))


def _refuse(code: Exit, reason: str, control: Control | None) -> Exit:
    logger.error("%s", reason)
    if control is not None:
        control.ended(code, reason)
    return code
