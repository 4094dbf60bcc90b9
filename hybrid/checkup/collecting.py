"""Collects the facts about a service: the only module of the check that opens, forks and reads.

Every address is bound and released at once, with the code of a start. While it listens, for a moment, a client may
connect and is reset; so does `hybrid run --check`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hybrid.checking import CheckError, load
from hybrid.checkup.facts import (
    Address,
    Certificate,
    EnvFile,
    Facts,
    Holder,
    LogFile,
    Machine,
    Pidfile,
    Platform,
    Target,
)
from hybrid.config import env_file, memory
from hybrid.config.certificates import CertificateError, verdict_of
from hybrid.config.cpus import count_usable
from hybrid.config.privileges import UnknownAccountError, resolve
from hybrid.config.service import ConfigError, Service
from hybrid.config.targets import describe
from hybrid.loops import list_loops
from hybrid.plan import Plan, plan, tls_of
from hybrid.supervisor.listeners import holders
from hybrid.supervisor.listeners.addresses import Bind, BindSyntaxError, UdpBind, parse_bind, with_families
from hybrid.supervisor.listeners.sockets import BindError, open_listeners
from hybrid.workers.contract.worker_spec import ListenerKind

_PID = re.compile(r"\bpid (\d+) \(")  # as `holders` writes it
_OURS = re.compile(rb"(?:^|[/\0])hybrid(?:\0|$)")  # `-m hybrid`, or the path of the command
_REFERENCE = re.compile(r"\$\{\w|\$[A-Za-z_]")
_INSTEAD: Final = {
    "access_log": "common",
    "log_config": None,
    "loop": "auto",
}  # field -> a value with which the rest can be tried
_TLS = ("certfile", "keyfile", "keyfile_password", "ca_certs", "client_certificate", "ciphers", "sni_hook")


def machine(environment: Mapping[str, str]) -> Machine:
    """Return the limits of this machine. Does not block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Machine(
        cores=count_usable(),
        memory=memory.usable(),
        nofile=soft,
        nofile_hard=hard,
        somaxconn=_number(Path("/proc/sys/net/core/somaxconn")),
        platform=_platform(environment),
        is_root=os.geteuid() == 0,
        now=time.time(),
    )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _platform(environment: Mapping[str, str]) -> Platform:
    if "KUBERNETES_SERVICE_HOST" in environment:
        return Platform.KUBERNETES
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return Platform.CONTAINER
    return Platform.SYSTEMD if "INVOCATION_ID" in environment else Platform.NONE


def collect(service: Service, limits: Machine, *, admin: str | None = None) -> Facts:
    """Return the facts about a service. Blocks while its target is loaded, at most `boot_timeout` seconds.

    `admin`: the address of `--admin`, which services share, if it is to be tried with this one.
    A part that is broken is left out, so that the other parts can be tried.
    """
    problems: list[tuple[str, str]] = []
    usable = service
    if service.event_words is not None and (why := _program(service.event_words[0]).problem):
        problems.append(("on_event", why))
    binds, broken = _binds(service)
    account = _account_problem(service)
    if account:
        usable = dataclasses.replace(usable, user=None, group=None)
    certificate = _certificate(service)
    if certificate is not None and certificate.problem:
        without: dict[str, Any] = dict.fromkeys(_TLS)
        usable = dataclasses.replace(usable, **without)
    loop = next((row.problem for row in list_loops() if row.name == service.loop and row.problem), "")
    usable = dataclasses.replace(usable, bind="127.0.0.1:0")
    intended = _plan_without(usable, problems)
    addresses: list[Address] = list(broken)
    kinds = set()
    if intended is not None:
        for text, bind in binds.items():
            address, found = _try_address(intended, text, bind, service)
            addresses.append(address)
            kinds |= found
        if admin is not None:
            addresses.append(_try_admin(intended, admin, service))
    target = Target()
    if service.words:
        target = _program(service.words[0])
    elif intended is not None and not loop and "loop" not in dict(problems):
        target = _load(intended, service, frozenset(kinds) or frozenset({ListenerKind.STREAM}))
    return Facts(
        service=service,
        machine=limits,
        target=target,
        addresses=tuple(addresses),
        account_problem=account,
        loop_problem=loop,
        other_problems=tuple(problems),
        certificate=certificate,
        pidfile=_pidfile(service),
        log_files=_log_files(service),
        env_files=_env_files(service),
    )


def _program(name: str) -> Target:
    """Return what is known of a program."""
    found = shutil.which(name)
    return Target(f"{name}: {found}") if found else Target(problem=f"{name}: there is no such program in PATH")


def _plan_without(usable: Service, problems: list[tuple[str, str]]) -> Plan | None:
    """Return the plan of a service; None, and the problem, if an option is wrong that nothing here leaves out."""
    try:
        return plan(usable, travels=False)
    except ConfigError as error:
        problems.append((error.field, error.reason))
        if error.field not in _INSTEAD:
            return None
        instead: dict[str, Any] = {error.field: _INSTEAD[error.field]}
    return _plan_without(dataclasses.replace(usable, **instead), problems)


def _account_problem(service: Service) -> str:
    try:
        resolve(service.user, service.group)
    except UnknownAccountError as error:
        return str(error)
    return ""


def _binds(service: Service) -> tuple[dict[str, Bind], list[Address]]:
    """Return the addresses as text and as the supervisor has them, and those that are none."""
    texts, binds, broken = [], [], []
    for text in dict.fromkeys(service.binds):
        try:
            binds.append(parse_bind(text))
            texts.append(text)
        except BindSyntaxError as error:
            broken.append(Address(text, str(error)))
    return dict(zip(texts, with_families(binds, ipv6_only=service.ipv6_only), strict=True)), broken


def _try_admin(intended: Plan, text: str, service: Service) -> Address:
    """Bind the address of `--admin`, as `_try_address` does; the target of the service does not serve it."""
    try:
        bind = parse_bind(text)
    except BindSyntaxError as error:
        return Address(text, str(error))
    return _try_address(intended, text, bind, service)[0]


def _try_address(intended: Plan, text: str, bind: Bind, service: Service) -> tuple[Address, set[ListenerKind]]:
    """Bind an address and release it. Blocks while a host name is resolved, and while /proc is searched."""
    kinds = {ListenerKind.DATAGRAM if isinstance(bind, UdpBind) else ListenerKind.STREAM}
    try:
        with open_listeners(dataclasses.replace(intended.settings, binds=(bind,), workers=1)) as listeners:
            return Address(text), {listener.kind for listener in listeners.all()}
    except BindError as error:
        match = _PID.search(holders.holders_of(bind) or "")
        holder = None if match is None else _holder(int(match[1]), service)
        return Address(text, str(error), holder), kinds


def _holder(pid: int, service: Service) -> Holder:
    """Return what is visible of a process; a process that has ended is none of ours."""
    process = Path("/proc") / str(pid)
    try:
        title = (process / "comm").read_bytes()
        is_hybrid = title.startswith(b"hybrid") or _OURS.search((process / "cmdline").read_bytes()) is not None
        works_here = (process / "cwd").samefile(service.directory)
    except OSError:
        return Holder(pid, False, False)
    return Holder(pid, is_hybrid, works_here)


def _load(intended: Plan, service: Service, kinds: frozenset[ListenerKind]) -> Target:
    try:
        loaded = load(intended, kinds)
    except CheckError as error:
        return Target(problem=f"{describe(service.target)}: {error.reason}")
    return Target(f"{describe(service.target)}: {loaded.description}", memory=loaded.memory)


def _certificate(service: Service) -> Certificate | None:
    if service.certfile is None:
        return None
    warnings: list[str] = []
    try:
        tls = tls_of(service, warnings.append)
    except CertificateError as error:
        return Certificate(str(service.certfile), f"{error.field}: {error.reason}")
    seen = {} if tls is None else verdict_of(tls)
    return Certificate(
        str(service.certfile),
        warnings=tuple(warnings),
        expires=seen.get("expires"),
        names=tuple(seen.get("names", ())),
    )


def _pidfile(service: Service) -> Pidfile | None:
    path = service.pidfile_path
    if path is None:
        return None
    if not path.parent.is_dir():
        return Pidfile(str(path), f"{path.parent} does not exist: mkdir {path.parent}, or name another file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return Pidfile(str(path), f"{path.parent} cannot be written by this user: chown it, or name another file")
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return Pidfile(str(path))
    if not (text.isascii() and text.isdigit() and len(text) < 10) or not Path(f"/proc/{text}").exists():
        return Pidfile(str(path))
    return Pidfile(str(path), holder=_holder(int(text), service))


def _log_files(service: Service) -> tuple[LogFile, ...]:
    named = {"log_file": service.log_file_path, "access_log_file": service.access_log_file_path}
    return tuple(LogFile(key, str(path), _log_problem(path)) for key, path in named.items() if path is not None)


def _log_problem(path: Path) -> str:
    """Return why a file cannot be appended to; it is not made."""
    if not path.parent.is_dir():
        return f"{path.parent} does not exist: mkdir {path.parent}, or name another file"
    if path.is_dir():
        return f"{path} is a directory: name a file"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"{path} cannot be written by this user: chown it, or name another file"
    return ""


def _env_files(service: Service) -> tuple[EnvFile, ...]:
    """Return the env files; one that cannot be read is reported by the plan."""
    found = []
    for name in service.env_files:
        path = Path(name).absolute()
        try:
            variables = env_file.read(path)
            mode = path.stat().st_mode
        except (ValueError, OSError):
            continue
        substituted = tuple(key for key, one in variables.items() if _REFERENCE.search(one.value))
        is_public = stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)
        found.append(EnvFile(str(path), len(variables), substituted, is_public))
    return tuple(found)
