"""Options and commands of other servers and process managers that people type by habit, and their equivalents here.

Pure: arguments in, advice out. The tables are those of `hybrid init --from`. The command asks only about options and
commands that it does not know, so hybrid's own words never get advice.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.init.equivalents import OTHERWISE, SAME

_PORT = "8000"
_HOST = "127.0.0.1"

_WORKER_CLASSES: dict[str, str] = {
    "gevent": "write --loop gevent",
    "gthread": "write --threads N",
    "sync": "leave it out: WSGI applications are recognised",
    "asgi": "leave it out: ASGI applications are recognised",
    "uvicorn": "leave it out: ASGI applications are recognised (--loop uvloop, if you want that loop)",
}  # part of the name of a worker class -> advice

_COMMANDS: dict[str, str] = {
    "serve": "write hybrid run",
    "start": "write hybrid run",
    "list": "write hybrid ps, or hybrid status",
    "ls": "write hybrid ps, or hybrid status",
    "stats": "write hybrid status, or hybrid top",
    "info": "write hybrid status",
    "show": "write hybrid status, or hybrid config",
    "describe": "write hybrid status",
    "monit": "write hybrid top",
    "monitor": "write hybrid top",
    "phased-restart": "write hybrid reload",
    "hup": "write hybrid reload",
    "incr": "write hybrid scale +1",
    "decr": "write hybrid scale -1",
    "numprocesses": "write hybrid status",
    "kill": "write hybrid stop --now",
    "halt": "write hybrid stop --now",
    "quit": "write hybrid stop",
    "shutdown": "write hybrid stop",
    "thread-backtraces": "write hybrid stacks",
    "dump": "write hybrid stacks",
    "logs": "the log is on stderr; hybrid events shows what happened lately",
}  # command of circus, PM2, Puma or gunicorn -> advice

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
    if option in OTHERWISE:
        return OTHERWISE[option]
    same = SAME.get(option)
    if same is None:
        return None
    value = _value(option, arguments)
    return f"write {same}" if value is None else f"write {same} {value}"


def advise_command(word: str, arguments: Sequence[str]) -> str | None:
    """Return the replacement for `hybrid WORD ...` if no command has that name; None if there is no likely one.

    A target or an option in that place means that `run` was left out.
    """
    if word in _COMMANDS:
        return _COMMANDS[word]
    if ":" in word or word.endswith(".py") or word.startswith("-"):
        return f"write hybrid run {' '.join(arguments)}"
    return None


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
