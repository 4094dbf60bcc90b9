"""The work of the commands that look at a running supervisor: `ps`, `status`, `top`, `stacks`, `events`.

Each returns its exit code, and raises `click.ClickException` if it fails.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TextIO

import click

from hybrid.cli.asking import ANSWER, connect, connected, failing, worker_named
from hybrid.cli.ending import FailedError, give_up_output
from hybrid.console import painting
from hybrid.console.layout import Line
from hybrid.console.lists import Supervisor, blocker_lines, label_lines, stacks_lines, supervisor_lines
from hybrid.console.status_text import status_lines
from hybrid.console.views import status_of, text
from hybrid.control.client import Client
from hybrid.control.errors import ControlError, RequestError
from hybrid.control.finding import Found, find

_TABLES: Final[Mapping[str, Callable[[Mapping[str, Any]], list[Line]]]] = {
    "blockers": blocker_lines,
    "labels": label_lines,
}  # request -> how its result is shown
_CLEAR: Final = "\x1b[H\x1b[2J"
_REFRESH: Final = 1.0  # seconds between two texts of `top` without a terminal
_RECONNECT: Final = 1.0  # seconds in which `top` does not react to keys, while a supervisor is stopped
_QUICKEST: Final = 0.1  # seconds between two texts of `status --watch`


def ps() -> int:
    """List the supervisors that run here. Returns the exit code."""
    findings = find()
    rows = [_asked(found) for found in findings.found]
    if rows:
        _show_lines(supervisor_lines(rows))
    else:
        click.echo("No supervisor is running here that this account may ask.", err=True)
    for address in findings.silent:
        click.echo(f"{text(address)} listens, but does not answer: it is stopped, or busy", err=True)
    return 0


def _asked(found: Found) -> Supervisor:
    try:
        with Client.connect(found.address, 1.0) as client:
            status = status_of(client.request("status", 1.0))
    except ControlError:
        status = None
    return Supervisor(found.greeting.name, found.greeting.pid, status)


def status(
    service: str | None,
    as_json: bool,
    watch: float | None,
    blockers: bool,
    labels: bool,
    name: str | None,
    control: str | None,
) -> int:
    """Show a supervisor and its workers, or what has blocked them or what requests cost, once or again and again.

    Returns the exit code.
    """
    tables = [one for one, is_asked in (("blockers", blockers), ("labels", labels)) if is_asked]
    if len(tables) > 1:
        raise click.UsageError("--blockers and --labels are two tables: ask for one")
    if tables and watch is not None:
        raise click.UsageError(f"--{tables[0]} is shown once: leave --watch out")
    with connected(name, control) as client:
        if tables:
            found = client.request(tables[0], ANSWER, service=service)
            _show_json(found) if as_json else _show_lines(_TABLES[tables[0]](found))
            return 0
        if watch is not None:
            return _watch(client, service, as_json=as_json, every=watch)
        _show_status(client, service, as_json)
    return 0


def _watch(client: Client, service: str | None, *, as_json: bool, every: float) -> int:
    """Show the status again and again, until Ctrl-C."""
    try:
        while True:
            _show_status(client, service, as_json, is_again=True)
            time.sleep(max(every, _QUICKEST))
    except KeyboardInterrupt:
        return 0


def _show_status(client: Client, service: str | None, as_json: bool, *, is_again: bool = False) -> None:
    """Show a status once; `is_again`: one of several."""
    fields = client.request("status", ANSWER, service=service)
    if as_json:
        _show_json(fields, is_one_line=is_again)
        return
    stream = _stdout()
    is_screen = painting.is_terminal(stream)
    lines = status_lines(status_of(fields), painting.width_of(stream) if is_screen else None)
    if is_again and is_screen:
        stream.write(_CLEAR)
    _show_lines(lines)
    if is_again and not is_screen:
        click.echo()


def top(service: str | None, name: str | None, control: str | None) -> int:
    """Show the workers live; without a terminal as `status` again and again. Returns the exit code."""
    with failing():
        client = connect(name, control)
        if painting.is_terminal(_stdout()):
            return _live(client, lambda: _again(client, name, control), service)
        with client:
            return _watch(client, service, as_json=False, every=_REFRESH)


def _again(client: Client, name: str | None, control: str | None) -> Client:
    """Connect again, to the successor of a supervisor too: by its name, unless its address was given."""
    if name is None and client.address == control:
        return connect(None, control, _RECONNECT)
    return connect(client.greeting.name, None, _RECONNECT)


def _live(client: Client, reconnect: Callable[[], Client], service: str | None) -> int:
    from hybrid.console.live import Live, end_by
    from hybrid.console.terminal import opened

    keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    try:
        with opened(keyboard, sys.stdout) as terminal:
            ended_by = Live(client, reconnect, terminal, service).run()
    except OSError as error:
        give_up_output()
        raise FailedError(f"the terminal is gone: {error.strerror or error}") from error
    if ended_by is not None:
        end_by(ended_by)
    return 0


def stacks(worker: str | None, as_json: bool, name: str | None, control: str | None) -> int:
    """Show where workers are. Returns the exit code."""
    service, slot = (None, None) if worker is None else (worker, None) if "/" not in worker else worker_named(worker)
    with connected(name, control) as client:
        result = client.request("stacks", ANSWER, service=service, slot=slot)
        if as_json:
            _show_json(result)
        else:
            _show_lines(stacks_lines(result))
    return 0


def metrics(name: str | None, control: str | None) -> int:
    """Print the metrics. Returns the exit code."""
    from hybrid.metrics.exposition import render  # 5 ms that other commands need not wait

    with connected(name, control) as client:
        found = client.request("status", ANSWER)
        with contextlib.suppress(RequestError):  # an older supervisor does not know the request
            found = {**found, **client.request("labels", ANSWER)}
        try:
            _, body = render(found)
        except (KeyError, TypeError) as error:
            raise FailedError(f"this supervisor is of another version: its status has no {error}") from None
        click.echo(body, nl=False)
    return 0


def events(follow: bool, name: str | None, control: str | None) -> int:
    """Show what happened lately, and what happens. Returns the exit code."""
    with connected(name, control) as client:
        recent = client.request("subscribe", ANSWER).get("recent")
        for event in recent if isinstance(recent, list) else []:
            _show_json(event, is_one_line=True)
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                for event in client.events(sys.stdout.fileno()):
                    _show_json(event, is_one_line=True)
        elif not isinstance(recent, list):
            click.echo("This supervisor keeps no events: write hybrid events --follow", err=True)
    return 0


def _show_lines(lines: Sequence[Line]) -> None:
    painting.write(lines, _stdout())


def _show_json(value: Any, *, is_one_line: bool = False) -> None:
    """Write JSON in ASCII, so that no text of a server reaches a terminal unescaped; DEL is the only one left."""
    written = json.dumps(value, indent=None if is_one_line else 2).replace("\x7f", "\\u007f")
    click.echo(written)


def _stdout() -> TextIO:
    """Return stdout; characters that its encoding does not have become question marks. Raises `FailedError`."""
    if sys.stdout is None:  # closed by the shell: hybrid status >&-
        raise FailedError("there is no output to write to: stdout is closed")
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return sys.stdout
