"""Which kind of application a target is: decided by its signature, or refused with what to write instead."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
from collections.abc import Callable
from typing import Any

from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.seat import ListenerKind
from hybrid.workers.errors import BootError


class Kind(enum.Enum):
    """How a target is called."""

    SYNC_STREAM = "sync stream"
    ASYNC_STREAM = "async stream"
    PROTOCOL = "protocol"
    SYNC_DATAGRAM = "sync datagram"
    ASYNC_DATAGRAM = "async datagram"


DATAGRAM_KINDS = frozenset({Kind.SYNC_DATAGRAM, Kind.ASYNC_DATAGRAM})
INTERFACES = ("auto", "stream", "protocol", "datagram")
_WEB = {"environ": "a WSGI application", "scope": "an ASGI application"}  # first parameter -> what it is
_HELP = (
    "write --interface stream for handle(sock, address) or async handle(reader, writer), "
    "--interface protocol for a factory of asyncio.Protocol, "
    "--interface datagram for handle(data, address, transport)"
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Signature:
    """What can be seen of a callable without calling it."""

    names: tuple[str, ...]  # positional parameters that have no default
    most: float  # how many positional arguments it takes
    known: bool = True

    def takes(self, count: int) -> bool:
        """Whether a call with `count` positional arguments fits; unknown signatures get the benefit of the doubt."""
        return not self.known or len(self.names) <= count <= self.most


def kind_of(target: Any, interface: str, listeners: frozenset[ListenerKind]) -> Kind:
    """Return the kind of `target`, asked for as `interface`, to be served on `listeners`.

    Raises `BootError` (TARGET) where it cannot be told, does not fit, or the addresses are of the other sort.
    """
    if not callable(target):
        raise BootError(Exit.TARGET, f"the target is a {type(target).__name__}, not something to call: {target!r:.80}")
    kind = _guess(target) if interface == "auto" else _named(target, interface)
    _check_listeners(kind, listeners)
    return kind


def _guess(target: Any) -> Kind:
    if inspect.isclass(target):
        if hasattr(target, "data_received") or hasattr(target, "buffer_updated"):
            return Kind.PROTOCOL
        raise BootError(
            Exit.TARGET, f"cannot tell what kind of application the class {target.__qualname__} is: {_HELP}"
        )
    signature = _signature(target)
    names = tuple(name.lower() for name in signature.names)
    if names[:2] in (("environ", "start_response"), ("scope", "receive")):
        raise BootError(
            Exit.TARGET,
            f"{_name(target)}({', '.join(names)}) looks like {_WEB[names[0]]}, "
            f"which this version does not serve; if it is not, {_HELP}",
        )
    required = len(names)
    is_async = is_coroutine_function(target)
    if signature.known and required == signature.most == 2:
        return Kind.ASYNC_STREAM if is_async else Kind.SYNC_STREAM
    if signature.known and required == signature.most == 3:
        return Kind.ASYNC_DATAGRAM if is_async else Kind.SYNC_DATAGRAM
    shape = f"takes ({', '.join(names)})" if signature.known else "does not tell its parameters"
    raise BootError(Exit.TARGET, f"cannot tell what kind of application {_name(target)} is: it {shape}; {_HELP}")


def _named(target: Any, interface: str) -> Kind:
    wanted = {"stream": 2, "datagram": 3, "protocol": 0}
    if interface not in wanted:
        raise BootError(Exit.USAGE, f"unknown interface {interface!r}: use one of {', '.join(INTERFACES)}")
    if not inspect.isclass(target) and not _signature(target).takes(wanted[interface]):
        names = ", ".join(_signature(target).names)
        raise BootError(
            Exit.TARGET,
            f"{_name(target)}({names}) cannot be called with {wanted[interface]} arguments, "
            f"as --interface {interface} does",
        )
    if interface == "protocol":
        return Kind.PROTOCOL
    is_async = is_coroutine_function(target)
    if interface == "datagram":
        return Kind.ASYNC_DATAGRAM if is_async else Kind.SYNC_DATAGRAM
    return Kind.ASYNC_STREAM if is_async else Kind.SYNC_STREAM


def _check_listeners(kind: Kind, listeners: frozenset[ListenerKind]) -> None:
    needed = ListenerKind.DATAGRAM if kind in DATAGRAM_KINDS else ListenerKind.STREAM
    if listeners - {needed}:
        if needed is ListenerKind.DATAGRAM:
            raise BootError(Exit.TARGET, "a datagram handler needs a datagram address: write --bind udp://HOST:PORT")
        raise BootError(Exit.TARGET, f"a {kind.value} handler cannot serve udp:// addresses: write --bind HOST:PORT")


def is_coroutine_function(target: Any) -> bool:
    """Whether calling `target` gives a coroutine: also for partials, methods and objects with `async def __call__`."""
    while isinstance(target, functools.partial):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def _signature(target: Callable[..., Any]) -> _Signature:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):  # some callables of C tell nothing
        return _Signature((), float("inf"), known=False)
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    variadic = any(item.kind is item.VAR_POSITIONAL for item in parameters)
    required = tuple(item.name for item in positional if item.default is item.empty)
    return _Signature(required, float("inf") if variadic else len(positional))


def _name(target: Any) -> str:
    return getattr(target, "__qualname__", None) or repr(target)
