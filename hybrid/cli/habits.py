"""Options of gunicorn, uvicorn, granian and hypercorn that people type by habit, and their equivalents here.

Pure: arguments in, advice out. The command asks only about options and commands that it does not know, so hybrid's own
words never get advice.
"""

from __future__ import annotations

from collections.abc import Sequence

_PORT = "8000"
_HOST = "127.0.0.1"

_SAME: dict[str, str] = {
    "-w": "--workers",
    "-t": "--stall-timeout",
    "-u": "--user",
    "-g": "--group",
    "--pid": "--pidfile",
    "--keep-alive": "--keep-alive-timeout",
    "--timeout": "--stall-timeout",
    "--timeout-keep-alive": "--keep-alive-timeout",
    "--timeout-graceful-shutdown": "--graceful-timeout",
    "--worker-connections": "--max-connections",
    "--limit-concurrency": "--max-connections",
    "--limit-max-requests": "--max-requests",
    "--limit-request-line": "--max-request-line",
    "--limit-request-fields": "--max-headers",
    "--limit-request-field_size": "--max-header-bytes",
    "--check-config": "--check",
    "--name": "--service",
    "-n": "--service",
    "--asgi-lifespan": "--lifespan",
    "--reload-ignore-patterns": "--reload-exclude",
    "--app-dir": "--chdir",
    "--working-dir": "--chdir",
    "--pid-file": "--pidfile",
    "--uds-permissions": "--unix-mode",
    "--blocking-threads": "--threads",
    "--backpressure": "--max-connections",
    "--ws-max-size": "--websocket-max-size",
    "--ws-ping-interval": "--websocket-ping-interval",
    "--ws-ping-timeout": "--websocket-ping-timeout",
    "--ssl-certfile": "--certfile",
    "--ssl-certificate": "--certfile",
    "--ssl-keyfile": "--keyfile",
    "--ssl-keyfile-password": "--keyfile-password",
    "--ssl-ca-certs": "--ca-certs",
    "--ssl-ca": "--ca-certs",
    "--ssl-ciphers": "--ciphers",
    "--proxy-allow-from": "--forwarded-allow-ips",
    "--access-logformat": "--access-log",
    "--access-log-format": "--access-log",
    "--access-log-fmt": "--access-log",
    "--reload-extra-file": "--reload-include",
    "--reload-paths": "--reload-dir",
    "--url-path-prefix": "--root-path",
    "--workers-lifetime": "--max-lifetime",
    "--workers-max-rss": "--max-memory",
    "--workers-kill-timeout": "--graceful-timeout",
}  # option of another server -> hybrid's option that takes the same value

_WORKER_CLASSES: dict[str, str] = {
    "gevent": "write --loop gevent",
    "gthread": "write --threads N",
    "sync": "leave it out: WSGI applications are recognised",
    "asgi": "leave it out: ASGI applications are recognised",
    "uvicorn": "leave it out: ASGI applications are recognised (--loop uvloop, if you want that loop)",
}  # part of the name of a worker class -> advice

_OTHERWISE: dict[str, str] = {
    "--daemon": "let a service manager start it, e.g. systemd, or put & behind the command",
    "-D": "let a service manager start it, e.g. systemd, or put & behind the command",
    "--reuse-port": "leave it out: each worker has its own listening socket",
    "--respawn-failed-workers": "leave it out: workers that die are always replaced",
    "--http": "leave it out: hybrid has one HTTP parser",
    "--ws": "leave it out: hybrid has one WebSocket implementation",
    "--error-logfile": "redirect stderr, e.g. 2>error.log",
    "--log-file": "redirect stderr, e.g. 2>error.log",
    "--access-logfile": "write --access-log, which goes to stdout",
    "-c": "write --config FILE, with a file in TOML, or hybrid.toml in this directory",
    "-m": "write --unix-mode, e.g. --unix-mode 660",
    "--umask": "write --unix-mode, e.g. --unix-mode 660",
    "--cert-reqs": "write --client-certificate required",
    "--ssl-cert-reqs": "write --client-certificate required",
    "--ssl-client-verify": "write --ca-certs FILE, which requires certificates",
    "--proxy-headers": "write --forwarded-allow-ips with the addresses of the proxies",
    "--header-map": "write --underscore-headers for `dangerous`; leave it out otherwise",
    "--max-requests-jitter": "write --recycle-jitter, a fraction, e.g. 0.1",
    "--statsd-host": "hybrid has no statsd client",
    "--env-file": "set the variables before the command, e.g. set -a; . ./.env",
    "--log-config": "configure `logging` in the application",
    "--headers": "let the application, or a proxy, add header fields",
    "--header": "let the application, or a proxy, add header fields",
}  # option of another server -> advice

_BINDS = frozenset({"--port", "-p", "--host", "-b", "--uds", "--fd", "--insecure-bind"})
_CLASSES = frozenset({"--worker-class", "-k"})


def advise_option(option: str, arguments: Sequence[str]) -> str | None:
    """Return the replacement for `option`, which hybrid does not have; None if no other server is known to have it.

    `arguments` are all words of the command line, the option's value among them.
    """
    if option in _BINDS:
        return f"write {_bind(arguments)}"
    if option in _CLASSES and (value := _value(option, arguments)) is not None:
        named = [advice for part, advice in _WORKER_CLASSES.items() if part in value.lower()]
        return named[-1] if named else "the loop is --loop NAME, and applications are recognised"
    if option in _OTHERWISE:
        return _OTHERWISE[option]
    same = _SAME.get(option)
    if same is None:
        return None
    value = _value(option, arguments)
    return f"write {same}" if value is None else f"write {same} {value}"


def advise_command(word: str, arguments: Sequence[str]) -> str | None:
    """Return the replacement for `hybrid WORD ...` if no command has that name; None if there is no likely one.

    A target or an option in that place means that `run` was left out.
    """
    if ":" in word or word.endswith(".py") or word.startswith("-"):
        return f"write hybrid run {' '.join(arguments)}"
    return "write hybrid run" if word in ("serve", "start") else None


def _bind(arguments: Sequence[str]) -> str:
    """Return the one `--bind` that replaces several options of other servers."""
    for name, form in (("--uds", "unix:{}"), ("--fd", "fd://{}"), ("-b", "{}"), ("--insecure-bind", "{}")):
        if (value := _value(name, arguments)) is not None:
            return f"--bind {form.format(f'0.0.0.0{value}' if value.startswith(':') else value)}"
    host = _value("--host", arguments) or _HOST
    port = _value("--port", arguments) or _value("-p", arguments) or _PORT
    return f"--bind {f'[{host}]' if ':' in host else host}:{port}"


def _value(option: str, arguments: Sequence[str]) -> str | None:
    """Return the value of an option: after `=`, in the next word, or, for a single letter, in the same word (`-w4`)."""
    for place, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name == option and equals:
            return value
        if word == option:
            following = arguments[place + 1] if place + 1 < len(arguments) else "-"
            return None if following.startswith("-") else following
        if len(option) == 2 and word.startswith(option) and len(word) > 2:
            return word[2:].removeprefix("=")
    return None
