"""Facts in, findings out. Pure: a unit test is a `Facts` and the findings expected.

Limits that nobody can see from here, such as systemd's TimeoutStopSec, are left out; a note names the default of what
is visible.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from hybrid.checkup.facts import Certificate, Facts, Holder, Machine, Pidfile, Platform
from hybrid.checkup.findings import Finding, Level
from hybrid.config.service import Service
from hybrid.config.texts import duration_text, size_text

DAY: Final = 86_400
MIN_DAYS: Final = 30
"""A certificate that lasts less is worth a warning."""
OWN_DESCRIPTORS: Final = 64
"""What a worker needs besides connections and listeners: the loop, pipes, log, files of the application."""
CROWDED: Final = 4
"""Workers per core above which they hinder each other, even if they wait most of the time."""
_STOPS_AFTER: Final = {Platform.KUBERNETES: 30.0, Platform.CONTAINER: 10.0, Platform.SYSTEMD: 90.0}
_ITS_OPTION: Final = {
    Platform.KUBERNETES: "terminationGracePeriodSeconds",
    Platform.CONTAINER: "the stop timeout (docker stop --time, stop_grace_period)",
    Platform.SYSTEMD: "TimeoutStopSec=",
}


def judge(facts: Facts) -> list[Finding]:
    """Return all findings about a service, in the order in which a start would meet them."""
    name = facts.service.name
    found = [
        *_options(facts),
        *_account(facts),
        *([] if facts.service.words else _loop(facts)),
        *_target(facts),
        *(finding for one in facts.addresses for finding in _address(one.text, one.problem, one.holder)),
        *([] if facts.certificate is None else _certificate(facts.certificate, facts.machine.now)),
        *([] if facts.pidfile is None else _pidfile(facts.pidfile)),
        *_log_files(facts),
        *_env_files(facts),
        *([] if facts.service.words else _descriptors(facts.service, facts.machine)),
        *([] if facts.service.words else _queues(facts.service, facts.machine)),
        *([] if facts.service.words else _workers(facts.service, facts.machine)),
        *_memory(facts),
        *_stop(facts.service, facts.machine),
    ]
    return [Finding(level, what, why, name) for level, what, why in found]


_Found = Iterator[tuple[Level, str, str]]


def judge_together(services: Iterable[Service]) -> list[Finding]:
    """Return the findings about several services that would run at the same time."""
    users: dict[str, str] = {}
    found = []
    for service in services:
        for bind in service.binds:
            if bind in users and not bind.endswith(":0"):
                why = f"service {users[bind]} has this address too: give each service its own"
                found.append(Finding(Level.ERROR, bind, why, service.name))
            users.setdefault(bind, service.name)
    return found


def _options(facts: Facts) -> _Found:
    for key, why in facts.other_problems:
        yield Level.ERROR, key, why
    if not facts.other_problems:
        yield Level.OK, "options", "all values are valid"
    if facts.service.refork_after and facts.service.preload == "off":
        yield Level.WARNING, "refork_after", 'has no effect with preload = "off": leave one of them out'


def _account(facts: Facts) -> _Found:
    service = facts.service
    if facts.account_problem:
        yield Level.ERROR, "user", facts.account_problem
    elif service.user is not None or service.group is not None:
        yield Level.OK, "user", f"workers run as {service.user or 'this user'}, group {service.group or 'its own'}"
    elif facts.machine.is_root:
        yield Level.NOTE, "user", 'workers run as root: set user, e.g. user = "nobody"; sockets are opened before'


def _loop(facts: Facts) -> _Found:
    if facts.loop_problem:
        yield Level.ERROR, "loop", f"{facts.service.loop}: {facts.loop_problem}; see: hybrid loops"


def _target(facts: Facts) -> _Found:
    what = "command" if facts.service.words else "target"
    if facts.target.problem:
        yield Level.ERROR, what, facts.target.problem
    elif facts.target.description:
        yield Level.OK, what, facts.target.description


def _address(text: str, problem: str, holder: Holder | None) -> _Found:
    if not problem:
        yield Level.OK, text, "can be bound"
    elif holder is not None and holder.is_hybrid and holder.works_here:
        yield (
            Level.NOTE,
            text,
            f"in use by a hybrid that runs here, pid {holder.pid}: replace it (hybrid upgrade), or stop it first",
        )
    elif holder is not None and holder.is_hybrid:
        yield Level.ERROR, text, f"in use by another running hybrid, pid {holder.pid}: stop it, or use another address"
    else:
        yield Level.ERROR, text, problem


def _log_files(facts: Facts) -> _Found:
    for one in facts.log_files:
        if one.problem:
            yield Level.ERROR, one.option, one.problem
        else:
            yield Level.OK, one.option, f"{one.path} can be written"


def _certificate(one: Certificate, now: float) -> _Found:
    if one.problem:
        yield Level.ERROR, "certificate", one.problem
        return
    days = None if one.expires is None else int((one.expires - now) // DAY)
    # the check of the files warns of an expired one too, without the days
    others = [text for text in one.warnings if "expired" not in text or days is None]
    for text in others:
        yield Level.WARNING, "certificate", text
    if days is not None and one.expires is not None:
        until = time.strftime("%Y-%m-%d", time.gmtime(one.expires))
        if days < 0:
            yield Level.ERROR, "certificate", f"{one.file}: expired on {until}: renew it, then reload (kill -HUP)"
        elif days < MIN_DAYS:
            yield Level.WARNING, "certificate", f"{one.file}: lasts {days} more days, until {until}: renew it"
        else:
            names = f", for {', '.join(one.names)}" if one.names else ""
            yield Level.OK, "certificate", f"{one.file}: lasts {days} days, until {until}{names}"
        if not one.names:
            yield (
                Level.WARNING,
                "certificate",
                f"{one.file}: has no subjectAltName: clients refuse it for every host; make one with names",
            )


def _pidfile(one: Pidfile) -> _Found:
    if one.problem:
        yield Level.ERROR, "pidfile", one.problem
    elif one.holder is None:
        yield Level.OK, "pidfile", f"{one.path} can be written"
    elif one.holder.is_hybrid:
        yield (
            Level.NOTE,
            "pidfile",
            f"{one.path} is held by a running hybrid, pid {one.holder.pid}: upgrade it (kill -USR2), or stop it "
            "before a start",
        )
    else:
        yield (
            Level.ERROR,
            "pidfile",
            f"{one.path} names the living process {one.holder.pid}, which is no hybrid: remove the file",
        )


def _env_files(facts: Facts) -> _Found:
    for one in facts.env_files:
        yield Level.OK, "env_file", f"{one.path}: {one.variables} variable{'s' * (one.variables != 1)}"
        if one.substituted:
            yield (
                Level.NOTE,
                "env_file",
                f"{one.path}: {', '.join(one.substituted)}: nothing is substituted, ${{...}} stays as it is",
            )
        if one.is_public:
            yield Level.NOTE, "env_file", f"{one.path}: every user may read it: chmod o-r {one.path}"


def _listeners(service: Service, workers: int) -> int:
    """Return how many listening sockets each worker inherits."""
    shared = sum(bind.startswith(("unix:", "fd:")) for bind in service.binds)
    return shared + (len(service.binds) - shared) * workers


def _count(service: Service, machine: Machine) -> int:
    return machine.cores if isinstance(service.workers, str) else service.workers


def _descriptors(service: Service, machine: Machine) -> _Found:
    own = _listeners(service, _count(service, machine)) + OWN_DESCRIPTORS
    free = machine.nofile - own
    how = f"ulimit -n {_rounded(own + max(service.max_connections, service.backlog))}, LimitNOFILE= in a systemd unit"
    hard = f" (the hard limit is {machine.nofile_hard})" if machine.nofile_hard > machine.nofile else ""
    if free <= 0:
        why = f"nofile is {machine.nofile}{hard}, and {own} descriptors are needed without a connection: {how}"
        yield Level.ERROR, "nofile", why
    elif service.max_connections > free:
        why = f"nofile is {machine.nofile}{hard}: a worker can serve about {free} connections at once"
        yield Level.WARNING, "nofile", f"{why}, not max_connections = {service.max_connections}: {how}"
    elif not service.max_connections and free < service.backlog:
        why = f"nofile is {machine.nofile}{hard}: a worker serves about {free} connections at once, others wait"
        yield Level.NOTE, "nofile", f"{why}; for more: {how}"
    else:
        yield Level.OK, "nofile", f"{machine.nofile} descriptors for each worker"


def _rounded(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _queues(service: Service, machine: Machine) -> _Found:
    if machine.somaxconn is None:
        return
    if machine.somaxconn < service.backlog:
        yield (
            Level.WARNING,
            "backlog",
            f"the kernel limits queues to {machine.somaxconn} connections, and backlog is {service.backlog}: "
            f"sysctl -w net.core.somaxconn={service.backlog}, or set backlog = {machine.somaxconn}",
        )
    else:
        yield Level.OK, "backlog", f"{service.backlog} connections may wait for each worker"


def _workers(service: Service, machine: Machine) -> _Found:
    count = _count(service, machine)
    cores = f"{machine.cores} core{'s' * (machine.cores != 1)}"
    if count > CROWDED * machine.cores:
        why = f"{count} workers share {cores}: set workers = {CROWDED * machine.cores} or less"
        yield Level.WARNING, "workers", why
    elif count > machine.cores:
        why = f'{count} workers share {cores}, which helps only if requests block: otherwise set workers = "auto"'
        yield Level.NOTE, "workers", why
    else:
        yield Level.OK, "workers", f"{count} of {cores}"


def _memory(facts: Facts) -> _Found:
    limit = facts.machine.memory
    if limit is None:
        return
    count = _count(facts.service, facts.machine)
    if facts.service.max_memory * count > limit:
        yield (
            Level.WARNING,
            "max_memory",
            f"{count} workers of {size_text(facts.service.max_memory)} are more than the {_mib(limit)} here: the "
            f'kernel kills one before it is recycled; set max_memory = "{limit // count >> 20}M" or less',
        )
    if facts.target.memory * count > limit:
        most = max(1, limit // facts.target.memory)
        yield (
            Level.WARNING,
            "memory",
            f"{count} workers need up to {_mib(facts.target.memory * count)}, of {_mib(limit)} here: set "
            f"workers = {most} or less, unless preloading shares most of it",
        )
    elif facts.target.memory:
        yield Level.OK, "memory", f"up to {_mib(facts.target.memory)} for each worker at its start, of {_mib(limit)}"


def _mib(size: int) -> str:
    return f"{max(1, size >> 20)} MiB"


def _stop(service: Service, machine: Machine) -> _Found:
    after = _STOPS_AFTER.get(machine.platform)
    takes = service.graceful_timeout * (2 if service.companions else 1)  # companions end after the workers
    if after is not None and takes >= after:
        yield (
            Level.NOTE,
            "graceful_timeout",
            f"{duration_text(takes)}: {machine.platform.value} kills {duration_text(after)} after "
            f"the stop begins, unless told otherwise: set {_ITS_OPTION[machine.platform]} to more than that",
        )
