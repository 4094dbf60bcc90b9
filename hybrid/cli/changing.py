"""The work of the commands that change a running supervisor: `reload`, `scale`, `restart`, `stop` and so on.

Each returns its exit code, and raises `click.ClickException` if it fails.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

import click

from hybrid.cli.asking import ANSWER, connected, worker_named
from hybrid.cli.ending import FailedError, OverdueError
from hybrid.console.progress import ProgressLine, progress_text
from hybrid.console.quantities import count
from hybrid.console.views import number, text
from hybrid.control.client import Client
from hybrid.control.errors import GoneError, LateError, RequestError

CHANGE: Final = re.compile(r"([+-]?)(\d{1,9})")
"""A number of workers, or by how many it changes."""


def reload(service: str | None, wait: float, name: str | None, control: str | None) -> int:
    """Load new code. Returns the exit code."""
    with connected(name, control) as client:
        result = _carry_out(client, "reload", wait, service=service)
        services = result.get("services") if result is not None else None
        if isinstance(services, dict):
            for reloaded, facts in services.items():
                generation = facts.get("generation") if isinstance(facts, dict) else None
                click.echo(f"{text(reloaded)} is reloaded: generation {text(generation) or 'unknown'}")
    return 0


def scale(words: tuple[str, ...], wait: float, name: str | None, control: str | None) -> int:
    """Change the number of workers. Returns the exit code."""
    service, how, value = _change(words)
    with connected(name, control) as client:
        result = _carry_out(client, "scale", wait, service=service, **{how: value})
        if result is not None:
            workers = number(result.get("workers"))
            click.echo(f"{text(result.get('service'))} has {count(workers)} worker{'' if workers == 1 else 's'}")
    return 0


def restart(worker: str, wait: float, name: str | None, control: str | None) -> int:
    """Replace one worker. Returns the exit code."""
    service, slot = worker_named(worker)
    with connected(name, control) as client:
        result = _carry_out(client, "restart", wait, service=service, slot=slot)
        if result is not None:
            click.echo(f"{text(worker)} is replaced: pid {text(result.get('pid')) or 'unknown'}")
    return 0


def stop(service: str | None, now: bool, wait: float, name: str | None, control: str | None) -> int:
    """Stop a service, or the supervisor. Returns the exit code."""
    with connected(name, control) as client:
        result = _carry_out(client, "stop", wait, service=service, now=now or None)
        if result is None:
            return 0
        code = result.get("code", 0)
        click.echo(f"{text(service) if service else text(client.greeting.name)} has stopped")
        if code != 0:
            raise FailedError(f"the supervisor ended with code {code}: see the exit codes in hybrid run --help")
    return 0


def upgrade(wait: float, name: str | None, control: str | None) -> int:
    """Replace the program itself. Returns the exit code."""
    with connected(name, control) as client:
        result = _carry_out(client, "upgrade", wait)
        if result is not None:
            click.echo(f"{text(client.greeting.name)} is upgraded: pid {text(result.get('pid')) or 'unknown'}")
    return 0


def loglevel(level: str, seconds: float | None, name: str | None, control: str | None) -> int:
    """Change the level of the log. Returns the exit code."""
    with connected(name, control) as client:
        result = client.request("loglevel", ANSWER, level=level, **{"for": seconds})
        limit = "" if (limited := number(result.get("for"))) is None else f" for {limited:g} s"
        click.echo(f"{text(client.greeting.name)} logs at {text(result.get('level')) or level}{limit}")
    return 0


def _carry_out(client: Client, request: str, wait: float, **parameters: Any) -> dict[str, Any] | None:
    """Send a long request and wait for its result, with progress on stderr; None with `--wait 0`.

    Raises `FailedError` with the reason, or with 124 if the time is over.
    """
    started = client.start(request, ANSWER, **parameters)
    with ProgressLine(sys.stderr) as line:
        try:
            if wait == 0:
                client.wait_accepted(started, ANSWER)
                return None
            return client.wait(started, wait, lambda fields: line.show(progress_text(request, fields)))
        except LateError as error:
            what = "was not accepted" if wait == 0 else "is not carried out"
            raise OverdueError(
                f"{request} {what} after {wait or ANSWER:g} s; the supervisor continues: see hybrid status"
            ) from error
        except GoneError as error:
            raise FailedError(f"the supervisor ended before {request} was carried out: {error}") from error
        except RequestError as error:
            raise FailedError(f"{request} failed: {error}") from error
        except KeyboardInterrupt:
            raise FailedError(f"interrupted; the supervisor goes on with {request}: see hybrid status") from None


def _change(words: tuple[str, ...]) -> tuple[str | None, str, int]:
    """Return the service (None: the first), the parameter of the request, and its value, of `web 6`, `+2` or `-1`."""
    *service, wanted = words
    match = CHANGE.fullmatch(wanted)
    if match is None or len(service) > 1:
        raise click.UsageError(
            f"{' '.join(words)!r}: write [SERVICE] and N, +N or -N, e.g. hybrid scale web 6",
            click.get_current_context(silent=True),
        )
    return service[0] if service else None, "by" if match[1] else "workers", int(wanted)
