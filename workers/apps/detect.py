"""Detects the kind of an application from its signature, or refuses with a hint.

The rules of `auto`, in this order; case and leading underscores of parameter names do not count:

1. A class with `data_received` or `buffer_updated` is a protocol.
2. A callable of three arguments, the first called `scope`, is ASGI 3; a class only if its instances can be awaited.
3. A callable that is not async, takes two arguments and calls the first `environ` or the second `start_response` is
   WSGI; so is (env, start...). A class may be WSGI too: PEP 3333, "The Application/Framework Side".
4. A callable of exactly two arguments is a stream handler, of exactly three a datagram handler.
5. A callable without a useful signature is WSGI if it has a `wsgi_app`, and ASGI if it has an `asgi_app` (Flask,
   Quart).

Instances are judged by their `__call__`. No framework is imported for this, and nothing is called.
"""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable
from typing import Any

from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.records import record
from hybrid.workers.contract.worker_spec import ListenerKind
from hybrid.workers.http.settings import HttpSettings


class Kind(enum.Enum):
    """The calling convention of a target."""

    SYNC_STREAM = "sync stream"
    ASYNC_STREAM = "async stream"
    PROTOCOL = "protocol"
    SYNC_DATAGRAM = "sync datagram"
    ASYNC_DATAGRAM = "async datagram"
    WSGI = "wsgi"
    ASGI = "asgi"

    @property
    def noun(self) -> str:
        """The name for a target of this kind in messages."""
        return f"{self.value.upper()} application" if self in HTTP_KINDS else f"{self.value} handler"

    @property
    def with_article(self) -> str:
        """The noun with `a` or `an`."""
        return f"{'an' if self.noun[0] in 'aA' else 'a'} {self.noun}"


DATAGRAM_KINDS = frozenset({Kind.SYNC_DATAGRAM, Kind.ASYNC_DATAGRAM})
HTTP_KINDS = frozenset({Kind.WSGI, Kind.ASGI})
INTERFACES = ("auto", "stream", "protocol", "datagram", "wsgi", "asgi")
_ARGUMENTS = {"stream": 2, "datagram": 3, "protocol": 0, "wsgi": 2, "asgi": 3}  # interface -> arguments of a call
_HELP = (
    "write --interface wsgi or --interface asgi for a web application, "
    "--interface stream for handle(sock, address) or async handle(reader, writer), "
    "--interface protocol for a factory of asyncio.Protocol, "
    "--interface datagram for handle(data, address, transport)"
)
_FACTORY = "if it is an application factory add --factory"
_OWN_SERVERS = {
    "aiohttp": (
        "the target is an aiohttp application: aiohttp has an HTTP server of its own and speaks neither WSGI nor "
        "ASGI, so no other server can serve it. Start it with aiohttp.web.run_app, or port its routes to Starlette or "
        "FastAPI"
    ),
    "tornado": (
        "the target is a Tornado application: Tornado has an HTTP server of its own and speaks neither WSGI nor "
        "ASGI, so no other server can serve it. Start it with its listen() under asyncio.run, or port its routes to "
        "Starlette or FastAPI"
    ),
}  # package of an application's class -> the error text
_ASGI_2 = (
    "{} takes only (scope), like ASGI 2 applications, but only ASGI 3 is supported: "
    "write it as async def app(scope, receive, send), or wrap it with asgiref.compatibility.double_to_single_callable"
)


@record(frozen=True, slots=True)
class _Signature:
    """The parameters of a callable, found without calling it."""

    names: tuple[str, ...]  # positional parameters without a default
    most: float  # maximum number of positional arguments
    known: bool = True

    def takes(self, count: int) -> bool:
        """Return True if a call with `count` positional arguments fits, or if the signature is unknown."""
        return not self.known or len(self.names) <= count <= self.most

    @property
    def is_exactly(self) -> int | None:
        """The exact number of positional arguments; None if it varies or is unknown."""
        return len(self.names) if self.known and len(self.names) == self.most else None

    @property
    def tells_little(self) -> bool:
        """True if the signature reveals nothing about its parameters, like `*args`."""
        return not self.known or (not self.names and self.most == float("inf"))

    @property
    def is_of_a_factory(self) -> bool:
        """True if the signature is known and requires no arguments."""
        return self.known and not self.names


def kind_of(target: Any, interface: str, listeners: frozenset[ListenerKind]) -> Kind:
    """Return the kind of `target`, requested as `interface`, to be served on `listeners`.

    Raises `BootError` (TARGET) if the kind is ambiguous, does not fit, or cannot serve these addresses.
    """
    if not callable(target):
        raise BootError(Exit.TARGET, f"the target is a {type(target).__name__}, not something to call: {target!r:.80}")
    _refuse_own_server(target)
    kind = _guess(target) if interface == "auto" else _named(target, interface)
    check_listeners(kind, listeners)
    return kind


def _refuse_own_server(target: Any) -> None:
    """Refuse an application that only its framework's own server can serve, but not a handler inside one."""
    for owner in type(target).__mro__:
        package = owner.__module__.partition(".")[0]
        if package in _OWN_SERVERS and owner.__name__ == "Application":
            raise BootError(Exit.TARGET, _OWN_SERVERS[package])


def check_http(kind: Kind, http: HttpSettings) -> None:
    """Refuse HTTP options for a target of another kind where ignoring them would be dangerous.

    Raises `BootError` (TARGET): the target would be served without encryption, or receive proxies' headers as data.
    """
    if kind in HTTP_KINDS:
        return
    for option, is_asked in (("--certfile", http.tls is not None), ("--proxy-protocol", http.proxy_protocol)):
        if is_asked:
            raise BootError(
                Exit.TARGET,
                f"{option} is for WSGI and ASGI applications, but the target is {kind.with_article}: "
                f"leave {option} out",
            )


def _guess(target: Any) -> Kind:
    if inspect.isclass(target) and (hasattr(target, "data_received") or hasattr(target, "buffer_updated")):
        return Kind.PROTOCOL
    signature = _signature(target)
    kind = _guess_web(target, signature)
    if kind is not None:
        return kind
    if not inspect.isclass(target):
        is_async = is_coroutine_function(target)
        if signature.is_exactly == 2:
            return Kind.ASYNC_STREAM if is_async else Kind.SYNC_STREAM
        if signature.is_exactly == 3:
            return Kind.ASYNC_DATAGRAM if is_async else Kind.SYNC_DATAGRAM
    raise BootError(Exit.TARGET, _cannot_tell(target, signature))


def _guess_web(target: Any, signature: _Signature) -> Kind | None:
    names = tuple(name.lower().lstrip("_") for name in signature.names)
    is_class = inspect.isclass(target)
    if len(names) == 3 and names[0] == "scope" and (not is_class or hasattr(target, "__await__")):
        return Kind.ASGI
    if names == ("scope",):
        raise BootError(Exit.TARGET, _ASGI_2.format(_name(target)))
    if len(names) == 2 and _are_of_wsgi(*names):
        if is_coroutine_function(target):
            raise BootError(Exit.TARGET, _async_wsgi(target))
        return Kind.WSGI
    if signature.tells_little and not is_class:
        if callable(getattr(target, "asgi_app", None)):
            return Kind.ASGI
        if callable(getattr(target, "wsgi_app", None)):
            return Kind.WSGI
    return None


def _are_of_wsgi(first: str, second: str) -> bool:
    return first == "environ" or second == "start_response" or (first == "env" and second.startswith("start"))


def _cannot_tell(target: Any, signature: _Signature) -> str:
    what = f"the class {target.__qualname__}" if inspect.isclass(target) else _name(target)
    shape = f"it takes ({', '.join(signature.names)})" if signature.known else "its signature is unknown"
    text = f"cannot tell what kind of application {what} is: {shape}; {_HELP}"
    return f"{text}; {_FACTORY}" if signature.is_of_a_factory else text


def _named(target: Any, interface: str) -> Kind:
    if interface not in _ARGUMENTS:
        raise BootError(Exit.USAGE, f"unknown interface {interface!r}: use one of {', '.join(INTERFACES)}")
    is_web = interface in ("wsgi", "asgi")
    if is_web or not inspect.isclass(target):
        _check_arguments(target, interface, is_web)
    is_async = is_coroutine_function(target)
    match interface:
        case "protocol":
            return Kind.PROTOCOL
        case "asgi":
            return Kind.ASGI
        case "wsgi":
            if is_async:
                raise BootError(Exit.TARGET, _async_wsgi(target))
            return Kind.WSGI
        case "datagram":
            return Kind.ASYNC_DATAGRAM if is_async else Kind.SYNC_DATAGRAM
        case _:
            return Kind.ASYNC_STREAM if is_async else Kind.SYNC_STREAM


def _check_arguments(target: Any, interface: str, is_web: bool) -> None:
    """Refuse a target that cannot be called in the way its interface requires.

    A web application has no parameters with defaults, but factories do: `create_app(config=None)`.
    """
    signature = _signature(target)
    is_factory = is_web and signature.is_of_a_factory and not signature.tells_little
    if signature.takes(_ARGUMENTS[interface]) and not is_factory:
        return
    if signature.names == ("scope",) and interface == "asgi":
        raise BootError(Exit.TARGET, _ASGI_2.format(_name(target)))
    text = f"{_name(target)}({', '.join(signature.names)}) cannot be called with {_ARGUMENTS[interface]} arguments"
    hint = f"; {_FACTORY}" if is_factory else ""
    raise BootError(Exit.TARGET, f"{text}, as --interface {interface} does{hint}")


def _async_wsgi(target: Any) -> str:
    return (
        f"{_name(target)} is async, and WSGI applications are called without await (PEP 3333): "
        "write def instead of async def, or write it as an ASGI application, (scope, receive, send)"
    )


def check_listeners(kind: Kind, listeners: frozenset[ListenerKind]) -> None:
    """Refuse addresses that a target of this kind cannot serve. Raises `BootError` (TARGET)."""
    needed = ListenerKind.DATAGRAM if kind in DATAGRAM_KINDS else ListenerKind.STREAM
    if not listeners - {needed, ListenerKind.PASSED}:
        return
    if needed is ListenerKind.DATAGRAM:
        text = "a datagram handler needs a datagram address: write --bind udp://HOST:PORT"
        if kind is Kind.ASYNC_DATAGRAM:
            text += "; if the target is an ASGI application add --interface asgi"
        raise BootError(Exit.TARGET, text)
    raise BootError(Exit.TARGET, f"{kind.with_article} cannot serve udp:// addresses: write --bind HOST:PORT")


def is_coroutine_function(target: Any) -> bool:
    """Return True if `target` returns a coroutine: also for partials, methods and objects with async `__call__`.

    Calling a class returns an instance, whatever the `__call__` of its instances is.
    """
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        return False
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def _signature(target: Callable[..., Any]) -> _Signature:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):  # some callables written in C have no signature
        return _Signature((), float("inf"), known=False)
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    variadic = any(item.kind is item.VAR_POSITIONAL for item in parameters)
    required = tuple(item.name for item in positional if item.default is item.empty)
    return _Signature(required, float("inf") if variadic else len(positional))


def _name(target: Any) -> str:
    return getattr(target, "__qualname__", None) or repr(target)
