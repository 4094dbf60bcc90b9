"""The options of `hybrid run` for any target: what to serve, where, with how many processes, and the log."""

from __future__ import annotations

import click

from hybrid.cli.headings import DEFAULTS, Heading
from hybrid.cli.values import FileMode, WorkerCount
from hybrid.config.service import DEFAULT_BIND, INTERFACES, LOG_FORMATS, LOG_LEVELS

_process = Heading.PROCESS
_log = Heading.LOG

OPTIONS = [
    _process.option(
        "--bind",
        "Where to listen: HOST:PORT, [IPV6]:PORT ([::]:PORT is IPv4 too), unix:/PATH, unix:@NAME, udp://HOST:PORT, or "
        "fd://N for a socket that is open already. Port 0 takes a free one. May be repeated. Without it, sockets "
        "passed by systemd are used, or 0.0.0.0 with the port that the variable PORT names.",
        multiple=True,
        metavar="ADDRESS",
        show_default=DEFAULT_BIND,
    ),
    _process.option(
        "--workers",
        "Number of worker processes. auto: as many as there are cores usable here (affinity and cgroup quota).",
        type=WorkerCount(),
        default="auto",
        envvar=["HYBRID_WORKERS", "WEB_CONCURRENCY"],
        metavar="auto|N",
    ),
    _process.option(
        "--loop",
        "Event loop: select, poll, epoll, gevent, asyncio or uvloop; auto is epoll. See: hybrid loops.",
        default="auto",
        metavar="NAME",
    ),
    _process.option(
        "--interface",
        "What TARGET is: wsgi, an application (environ, start_response); asgi, an application (scope, receive, send); "
        "stream, a handler of one connection, sync (sock, address) or async (reader, writer); protocol, a factory of "
        "asyncio.Protocol; datagram, a handler (data, address, transport). auto tells by the signature: a sync TARGET "
        "of two parameters is WSGI if they are called environ, start_response, and a stream handler if not; an async "
        "one of three is ASGI if the first is called scope, and a datagram handler if not.",
        type=click.Choice(INTERFACES),
        default="auto",
    ),
    _process.switch(
        "--factory",
        "TARGET is an application factory: call it without arguments and serve its result.",
    ),
    _process.option("--service", "Name of the service in the log.", default=DEFAULTS["name"], metavar="NAME"),
    _process.duration(
        "--graceful-timeout", "How long workers may finish their connections at a stop; then they are killed."
    ),
    _process.duration(
        "--boot-timeout", "How long a worker may take until it is ready; then it is killed and started anew."
    ),
    _process.duration("--backoff", "First pause before a worker that keeps dying is restarted; doubles each time."),
    _process.duration("--backoff-max", "Longest such pause."),
    _process.count("--backlog", "Connections the kernel queues per worker (at most net.core.somaxconn)."),
    _process.switch("--ipv6-only", "Let [::]:PORT serve IPv6 only. Without this option it serves IPv4 too."),
    _process.option(
        "--unix-mode",
        "File mode of UNIX sockets.",
        type=FileMode(),
        default=f"{DEFAULTS['unix_mode']:o}",
        metavar="OCTAL",
    ),
    _process.file("--pidfile", "File for the supervisor's process id."),
    _process.file("--chdir", "Directory to work in; TARGET is looked for there first.", directory=True),
    _process.option(
        "--user",
        "Run the workers as this user (needs root; sockets are made before). HOME, USER and LOGNAME become those of "
        "its account, unless they were set to something else than root's.",
        metavar="NAME|UID",
    ),
    _process.option("--group", "Run the workers as this group (needs root).", metavar="NAME|GID"),
    _process.switch("--pin", "Bind each worker to one core."),
    _process.option(
        "--check",
        "Open the sockets, load TARGET in a child process, tell what it is, end.",
        is_flag=True,
        envvar=None,
    ),
    _log.option(
        "--log-format", "Form of the log, on stderr.", type=click.Choice(LOG_FORMATS), default=DEFAULTS["log_format"]
    ),
    _log.option(
        "--log-level", "Least important records to log.", type=click.Choice(LOG_LEVELS), default=DEFAULTS["log_level"]
    ),
]
