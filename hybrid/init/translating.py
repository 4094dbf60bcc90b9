"""The options of another server as a service of `hybrid.toml`, and remarks about what has no equivalent.

`equivalents` says which option takes the same value; the rules here are for those whose value means something else.
"""

from __future__ import annotations

import re
from typing import Final

from hybrid.config.log_config import FORMS
from hybrid.init.command_lines import Command, Given
from hybrid.init.equivalents import OTHERWISE
from hybrid.init.translation import OPTIONS, Rule, Translated, Translation, typed

_LEVELS: Final = {"critical": "error", "warn": "warning", "trace": "debug", "notset": "debug"}
_VERIFY: Final = {"0": "none", "1": "optional", "2": "required", "CERT_NONE": "none", "CERT_OPTIONAL": "optional"}
_COMMON_FORMAT: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'  # gunicorn's default: combined


def translate(command: Command, name: str, *, guess: str | None = None) -> Translated:
    """Return the service for a command of another server. `guess`: the target if the command names none."""
    one = Translation(command.server, RULES)
    for text in command.environment:
        key = text.partition("=")[0]
        one.remarks.append(f'{key}=...: write it to an env file, and set env_file = ".env"')
    for word in command.unknown:
        one.remarks.append(f"{word}: not an option of {command.server.name}: not translated")
    for given in command.options:
        one.take(given)
    target = one.choose_target(command.targets, guess)
    return one.finish(target, name)


def _address(text: str) -> str:
    """Return an address as hybrid has it: the host alone gets the port that these servers use."""
    if text.startswith(("unix:", "fd://", "tcp://")):
        return text
    if text.startswith(":"):
        return f"0.0.0.0{text}"
    is_host_alone = ":" not in text or text.endswith("]")
    return f"{text}:8000" if is_host_alone else text


def _bind(one: Translation, given: Given) -> None:
    for text in (given.value or "").split(","):
        if text.strip():
            one.bind(_address(text.strip()))


def _insecure_bind(one: Translation, given: Given) -> None:
    one.remark(given, f"TLS is on for all addresses of a service: make a second service with bind = {given.value!r}")


def _worker_class(one: Translation, given: Given) -> None:
    value = (given.value or "").lower()
    if value in ("gevent", "uvloop", "asyncio"):
        one.put("loop", value)
    elif "uvicorn" in value:
        one.remark(given, 'not needed: ASGI applications are recognised; loop = "uvloop" if you want that loop')
    elif value not in ("sync", "gthread", "asgi"):
        one.remark(given, f"{given.value} has no equivalent: hybrid loops lists the loops")


def _threads(one: Translation, given: Given) -> None:
    if given.value != "1":
        one.put("threads", typed(OPTIONS["--threads"], given, "--threads"))


def _jitter(one: Translation, given: Given) -> None:
    limit = one.last("--max-requests") or one.last("--limit-max-requests")
    try:
        fraction = round(int(given.value or "") / int((limit and limit.value) or ""), 3)
    except (ValueError, ZeroDivisionError):
        one.remark(given, "recycle_jitter is a fraction of max_requests, 0.1 by default")
        return
    one.put("recycle_jitter", fraction)


def _header_bytes(one: Translation, given: Given) -> None:
    one.remark(given, "max_header_bytes limits the whole head, not a field, and is left at its default")


def _umask(one: Translation, given: Given) -> None:
    one.remark(given, 'set the mode of UNIX sockets, unix_mode = "660", and UMask= in a systemd unit')


def _env(one: Translation, given: Given) -> None:
    keys = [part.partition("=")[0] for part in (given.value or "").split(",") if "=" in part]
    one.remark(given, f'write {", ".join(keys)} to an env file, and set env_file = ".env"')


def _access_log(one: Translation, given: Given) -> None:
    if given.value in ("", "None"):
        return
    if one.last("--access-logformat") is None:
        one.put("access_log", "combined")
    if given.value not in ("-", None, "/dev/stdout"):
        one.put("access_log_file", given.value)


def _no_access_log(one: Translation, given: Given) -> None:
    """It is off by default."""


def _access_format(one: Translation, given: Given) -> None:
    one.put("access_log", "combined" if given.value == _COMMON_FORMAT else given.value or "combined")


def _access_format_of_granian(one: Translation, given: Given) -> None:
    one.remark(given, "the fields have other names here, see docs/http.md: write access_log with them")


def _error_log(one: Translation, given: Given) -> None:
    if given.value not in ("-", None, "/dev/stderr"):
        one.put("log_file", given.value)


def _log_config(one: Translation, given: Given) -> None:
    if given.value and given.value.endswith(FORMS):
        one.put("log_config", given.value)
    else:
        one.remark(given, 'write it as TOML, JSON or YAML, and set log_config = "logging.toml"')


def _log_level(one: Translation, given: Given) -> None:
    value = (given.value or "").lower()
    one.put("log_level", _LEVELS.get(value, value))


def _password(one: Translation, given: Given) -> None:
    one.remark(given, "a password does not belong into the file: set HYBRID_KEYFILE_PASSWORD")


def _client_certificates(one: Translation, given: Given) -> None:
    value = (given.value or "").rpartition(".")[2]
    wanted = _VERIFY.get(value, "required" if value in ("", "CERT_REQUIRED") else value)
    if wanted != "none":
        one.put("client_certificate", wanted)


def _proxy_protocol(one: Translation, given: Given) -> None:
    if (given.value or "on").lower() not in ("off", "false", "none"):
        one.put("proxy_protocol", True)


def _proxy_headers(one: Translation, given: Given) -> None:
    if one.last("--forwarded-allow-ips") is None:
        one.remark(given, 'name the proxies: forwarded_allow_ips = "127.0.0.1"; none is trusted by default')


def _header_map(one: Translation, given: Given) -> None:
    if given.value == "dangerous":
        one.put("underscore_headers", True)
    elif given.value == "refuse":
        one.remark(given, "fields with an underscore are dropped, not refused")


def _reload(one: Translation, given: Given) -> None:
    one.remark(given, "is in [profile.dev]: hybrid run --profile dev")


def _preload(one: Translation, given: Given) -> None:
    one.remark(given, 'not needed: preload = "auto" is the default, where the import is safe for a fork')


def _loop(one: Translation, given: Given) -> None:
    value = (given.value or "auto").lower()
    if value in ("asyncio", "uvloop"):
        one.put("loop", value)
    elif value != "auto":
        one.remark(given, f"hybrid has no loop {value}: hybrid loops lists those it has")


def _interface(one: Translation, given: Given) -> None:
    value = (given.value or "auto").lower()
    if value in ("wsgi", "asgi", "asgi3", "asginl"):
        one.put("interface", value[:4])
    if value == "asginl":
        one.put("lifespan", "off")
    if value in ("rsgi", "asgi2"):
        one.remark(given, f"{value} is not supported: the application must speak ASGI 3 or WSGI")


def _root_path(one: Translation, given: Given) -> None:
    value = (given.value or "").strip("/")
    if value:
        one.put("root_path", f"/{value}")


def _milliseconds(one: Translation, given: Given) -> None:
    one.put("header_timeout", f"{given.value}ms")


def _mebibytes(one: Translation, given: Given) -> None:
    one.put("max_memory", f"{given.value}M")


def _compression(one: Translation, given: Given) -> None:
    if (given.value or "").lower() in ("false", "0", "no", "off"):
        one.put("websocket_compression", False)


def _name(one: Translation, given: Given) -> None:
    if given.value and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", given.value):
        one.call(given.value)
    else:
        one.remark(given, f"{given.value!r} cannot be the name of a service")


def _uds(one: Translation, given: Given) -> None:
    one.bind(f"unix:{given.value}")


def _fd(one: Translation, given: Given) -> None:
    one.bind(f"fd://{given.value}")


def _part_of_bind(one: Translation, given: Given) -> None:
    """`_bind_all` looks at it."""


def _choice_of_parser(one: Translation, given: Given) -> None:
    if given.value not in (None, "auto"):
        one.remark(given, OTHERWISE.get(given.flag, "not needed"))


def _versions_or_parser(one: Translation, given: Given) -> None:
    """Of granian it names versions, as ours does; of uvicorn a parser."""
    if given.value in ("1", "2"):
        one.put("http", given.value)
    elif given.value not in (None, "auto"):
        one.remark(given, "leave it out: hybrid has one HTTP parser")


def _protocols(one: Translation, given: Given) -> None:
    words = (given.value or "").split(",")
    if "h2" not in words:
        one.put("http", "1")
    elif "h1" not in words:
        one.put("http", "2")


def _owner_of_sockets(one: Translation, given: Given) -> None:
    if one.server.name == "hypercorn":
        one.remark(given, "is the owner of UNIX sockets there; here user and group are those of the workers")
    else:
        option = OPTIONS[given.flag]
        one.put(str(option.key), typed(option, given, given.flag))


def _config(one: Translation, given: Given) -> None:
    one.remark(given, f"{given.value} is not read: write its settings as keys")


def _of_one_run(one: Translation, given: Given) -> None:
    one.remark(given, "type hybrid check")


def _tls_version(one: Translation, given: Given) -> None:
    one.remark(given, "TLS 1.2 and 1.3 are spoken: for another choice write a function for sni_hook")


RULES: Final[dict[str, Rule]] = {
    "--bind": _bind,
    "--insecure-bind": _insecure_bind,
    "--uds": _uds,
    "--fd": _fd,
    "--host": _part_of_bind,
    "--port": _part_of_bind,
    "--worker-class": _worker_class,
    "--threads": _threads,
    "--max-requests-jitter": _jitter,
    "--limit-max-requests-jitter": _jitter,
    "--limit-request-field_size": _header_bytes,
    "--umask": _umask,
    "--env": _env,
    "--access-logfile": _access_log,
    "--access-log": _access_log,
    "--no-access-log": _no_access_log,
    "--access-logformat": _access_format,
    "--access-log-fmt": _access_format_of_granian,
    "--error-logfile": _error_log,
    "--log-config": _log_config,
    "--log-config-json": _log_config,
    "--log-level": _log_level,
    "--keyfile-password": _password,
    "--ssl-keyfile-password": _password,
    "--cert-reqs": _client_certificates,
    "--ssl-cert-reqs": _client_certificates,
    "--verify-mode": _client_certificates,
    "--ssl-client-verify": _client_certificates,
    "--ssl-version": _tls_version,
    "--ssl-protocol-min": _tls_version,
    "--proxy-protocol": _proxy_protocol,
    "--proxy-headers": _proxy_headers,
    "--header-map": _header_map,
    "--reload": _reload,
    "--reload-dir": _reload,
    "--reload-include": _reload,
    "--reload-exclude": _reload,
    "--reload-extra-file": _reload,
    "--reload-paths": _reload,
    "--reload-ignore-patterns": _reload,
    "--preload": _preload,
    "--loop": _loop,
    "--asgi-loop": _loop,
    "--interface": _interface,
    "--root-path": _root_path,
    "--url-path-prefix": _root_path,
    "--http1-header-read-timeout": _milliseconds,
    "--workers-max-rss": _mebibytes,
    "--ws-per-message-deflate": _compression,
    "--name": _name,
    "--http": _versions_or_parser,
    "--ws": _choice_of_parser,
    "--http-parser": _choice_of_parser,
    "--http-protocols": _protocols,
    "--user": _owner_of_sockets,
    "--group": _owner_of_sockets,
    "--config": _config,
    "--check-config": _of_one_run,
    "--print-config": _of_one_run,
}  # option of another server -> what it means here, unless `SAME` says it
