"""What the commands for a running supervisor have in common: its options, how it is found, how errors end a command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from hybrid.cli.ending import FailedError, OverdueError
from hybrid.config.texts import read_duration
from hybrid.console.safe import safe
from hybrid.control.choosing import choose
from hybrid.control.client import Client
from hybrid.control.errors import ChoiceError, ControlError, LateError
from hybrid.control.finding import find

if TYPE_CHECKING:  # click before 8.4 has no such subscript at run time
    _Type = click.ParamType[float]
else:
    _Type = click.ParamType

ANSWER: Final = 5.0
"""Seconds for an answer that needs no waiting."""
_LONGEST: Final = 86_400.0  # seconds
_NO_ADDRESS: Final = ("", "auto", "off")  # of HYBRID_CONTROL, which is the option --control of hybrid run too


class Duration(_Type):
    """Seconds as text: `30`, `500ms`, `2m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a text or a number."""
        try:
            seconds = read_duration(str(value))
        except ValueError as error:
            self.fail(str(error))
        if seconds > _LONGEST:
            self.fail(f"{value!r} is too long: use at most 24h")
        return seconds


def which() -> list[click.Option]:
    """Return the options that say which supervisor is asked."""
    return [
        click.Option(
            ["-n", "--name"],
            metavar="NAME|PID",
            help="The supervisor to ask, by name or pid: see hybrid ps. Default: the only one of this account.",
        ),
        click.Option(
            ["--control"],
            metavar="PATH|@NAME",
            envvar=["HYBRID_CONTROL"],
            show_envvar=True,
            help="The control socket to ask: what hybrid run --control was given, or an abstract name.",
        ),
    ]


def waiting(default: str) -> click.Option:
    """Return the option that says how long a command waits until a request is carried out."""
    return click.Option(
        ["--wait"],
        type=Duration(),
        metavar="SECONDS",
        is_flag=False,
        flag_value=default,
        default=default,
        show_default=True,
        help="Wait so long until it is carried out, then exit with 124; the supervisor continues. 0: do not wait.",
    )


def connect(name: str | None, control: str | None, timeout: float = ANSWER) -> Client:
    """Connect to the supervisor that is meant. Waits 0.5 s to find it, and `timeout` seconds for its greeting.

    Raises `ControlError`, and `UsageError` for options that exclude each other.
    """
    address = None if control in _NO_ADDRESS else control
    if name is not None and address is not None and _is_typed("control"):
        raise click.UsageError("--name and --control exclude each other", click.get_current_context(silent=True))
    if address is None or name is not None:
        address = choose(find().found, os.geteuid(), name).address
    return Client.connect(address, timeout)


def _is_typed(parameter: str) -> bool:
    context = click.get_current_context(silent=True)
    source = None if context is None else context.get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


@contextlib.contextmanager
def connected(name: str | None, control: str | None) -> Iterator[Client]:
    """Connect, and turn each error of the control socket into the end of the command."""
    with failing(), connect(name, control) as client:
        yield client


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """Turn an error of the control socket into the end of the command. Raises `FailedError` or `UsageError`."""
    try:
        yield
    except ChoiceError as error:
        if error.is_ambiguous:
            raise click.UsageError(safe(str(error)), click.get_current_context(silent=True)) from error
        raise FailedError(str(error)) from error
    except LateError as error:
        raise OverdueError(str(error)) from error
    except ControlError as error:
        raise FailedError(str(error)) from error


def service_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the services of the running supervisor for the completion of a shell; none if anything fails."""
    with contextlib.suppress(Exception):
        with connect(context.params.get("name"), context.params.get("control")) as client:
            services = client.request("status", 0.5)["services"]
        return [name for one in services if (name := str(one["name"])).startswith(begun) and name.isprintable()]
    return []


def worker_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the workers of the running supervisor, e.g. `web/0`, for the completion of a shell."""
    with contextlib.suppress(Exception):
        with connect(context.params.get("name"), context.params.get("control")) as client:
            services = client.request("status", 0.5)["services"]
        labels = [label for one in services for label in _labels(one)]
        return [label for label in labels if label.startswith(begun) and label.isprintable()]
    return []


def _labels(service: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the workers of a service, and of its companions."""
    for worker in service["workers"]:
        yield f"{service['name']}/{worker['slot']}"
    for one in service.get("companions", ()):  # an older supervisor has none
        yield f"{service['name']}.{one['companion']}/{one['slot']}"


def worker_named(text: str) -> tuple[str, int]:
    """Return service and slot of `web/3`. Raises `BadParameter`."""
    service, slash, slot = text.rpartition("/")
    if not (slash and service and slot.isascii() and slot.isdigit()):
        raise click.BadParameter(f"{text!r} is not a worker: write SERVICE/SLOT, e.g. web/3, see hybrid status")
    return service, int(slot)
