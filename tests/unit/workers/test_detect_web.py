"""Detection of web applications: PEP 3333 and ASGI by signature, and real frameworks."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.rows import for_each

from hybrid.workers.apps.detect import Kind, kind_of
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.worker_spec import ListenerKind

STREAM = frozenset({ListenerKind.STREAM})
DATAGRAM = frozenset({ListenerKind.DATAGRAM})


def wsgi(environ: Any, start_response: Any) -> None: ...
def wsgi_in_capitals(Environ: Any, Start_Response: Any) -> None: ...  # noqa: N803
def wsgi_unused(_environ: Any, _start_response: Any) -> None: ...
def wsgi_short(env: Any, start: Any) -> None: ...
def wsgi_half(environ: Any, sr: Any) -> None: ...
def wsgi_other_half(e: Any, start_response: Any) -> None: ...
def wsgi_with_more(environ: Any, start_response: Any, debug: bool = False) -> None: ...
def configured_wsgi(config: Any, environ: Any, start_response: Any) -> None: ...
async def async_wsgi(environ: Any, start_response: Any) -> None: ...
async def asgi(scope: Any, receive: Any, send: Any) -> None: ...
async def asgi_short(scope: Any, rcv: Any, snd: Any) -> None: ...
async def asgi_with_more(scope: Any, receive: Any, send: Any, debug: bool = False) -> None: ...
def asgi_by_hand(scope: Any, receive: Any, send: Any) -> Any: ...
async def configured_asgi(config: Any, scope: Any, receive: Any, send: Any) -> None: ...
def asgi_2(scope: Any) -> Any: ...
async def two(env: Any, writer: Any) -> None: ...
def env_address(env: Any, address: Any) -> None: ...
def any_number(*args: Any) -> None: ...
def create_app() -> Any: ...
def create_app_with_options(config: Any = None, debug: bool = False) -> Any: ...


@functools.wraps(wsgi)
def decorated_wsgi(*args: Any) -> None: ...


@functools.wraps(asgi)
async def decorated_asgi(*args: Any) -> None: ...


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> None: ...
    def method(self, environ: Any, start_response: Any) -> None: ...


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...
    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


class ClassOfThePep:
    """The second example of PEP 3333."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...  # type: ignore[empty-body]


class Endpoint:
    """A class with awaitable instances, like Starlette's endpoints."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...
    def __await__(self) -> Any: ...


class NotAwaited:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Asgi2:
    def __init__(self, scope: Any) -> None: ...
    async def __call__(self, receive: Any, send: Any) -> None: ...


class Asgi2Instance:
    def __call__(self, scope: Any) -> Any: ...


class Mute:
    """An application with an uninformative signature."""

    def __call__(self, *args: Any) -> Any: ...


class MuteWsgi(Mute):
    def wsgi_app(self, environ: Any, start_response: Any) -> None: ...


class MuteAsgi(Mute):
    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None: ...


@for_each(
    "target",
    [
        wsgi,
        wsgi_in_capitals,
        wsgi_unused,
        wsgi_short,
        wsgi_half,
        wsgi_other_half,
        wsgi_with_more,
        decorated_wsgi,
        functools.partial(configured_wsgi, {}),
        lambda environ, start_response: None,
        Wsgi(),
        Wsgi().method,
        ClassOfThePep,
        MuteWsgi(),
    ],
)
def test_wsgi_applications_are_recognised(target: Any) -> None:
    assert kind_of(target, "auto", STREAM) is Kind.WSGI


@for_each(
    "target",
    [
        asgi,
        asgi_short,
        asgi_with_more,
        asgi_by_hand,
        decorated_asgi,
        functools.partial(configured_asgi, {}),
        Asgi(),
        Asgi().method,
        Endpoint,
        MuteAsgi(),
    ],
)
def test_asgi_applications_are_recognised(target: Any) -> None:
    assert kind_of(target, "auto", STREAM) is Kind.ASGI


@pytest.mark.parametrize(("target", "kind"), [(two, Kind.ASYNC_STREAM), (env_address, Kind.SYNC_STREAM)])
def test_a_partial_match_is_not_enough(target: Any, kind: Kind) -> None:
    assert kind_of(target, "auto", STREAM) is kind


def _flask() -> Any:
    return importlib.import_module("flask").Flask("sample")


def _django_wsgi() -> Any:
    _configure_django()
    return importlib.import_module("django.core.wsgi").get_wsgi_application()


def _django_asgi() -> Any:
    _configure_django()
    return importlib.import_module("django.core.asgi").get_asgi_application()


def _configure_django() -> None:
    settings = importlib.import_module("django.conf").settings
    if not settings.configured:
        settings.configure(ROOT_URLCONF="", SECRET_KEY="x")


def _starlette() -> Any:
    return importlib.import_module("starlette.applications").Starlette()


def _fastapi() -> Any:
    return importlib.import_module("fastapi").FastAPI()


def _starlette_behind_middleware() -> Any:
    return importlib.import_module("starlette.middleware.gzip").GZipMiddleware(_starlette())


@for_each(
    ("make", "kind"),
    [
        (_flask, Kind.WSGI),
        (_django_wsgi, Kind.WSGI),
        (_django_asgi, Kind.ASGI),
        (_starlette, Kind.ASGI),
        (_fastapi, Kind.ASGI),
        (_starlette_behind_middleware, Kind.ASGI),
    ],
)
def test_framework_applications_are_recognised(make: Callable[[], Any], kind: Kind) -> None:
    assert kind_of(make(), "auto", STREAM) is kind


@for_each(
    ("target", "message"),
    [
        (asgi_2, r"asgi_2 takes only \(scope\), like ASGI 2 applications, but only ASGI 3 is supported: write"),
        (Asgi2, "Asgi2 takes .*double_to_single_callable"),
        (Asgi2Instance(), "like ASGI 2 applications"),
        (async_wsgi, "async_wsgi is async, and WSGI applications are called without await"),
        (create_app, r"create_app is: it takes \(\); .*; if it is an application factory add --factory$"),
        (create_app_with_options, "if it is an application factory add --factory$"),
        (Asgi, "the class Asgi is: .*; if it is an application factory add --factory$"),
        (NotAwaited, r"cannot tell what kind of application the class NotAwaited is"),
        (any_number, r"cannot tell .* write --interface wsgi or --interface asgi for a web application"),
        (Mute(), "cannot tell what kind of application"),
    ],
)
def test_lookalikes_of_web_applications_are_refused_with_a_hint(target: Any, message: str) -> None:
    with pytest.raises(BootError, match=message) as raised:
        kind_of(target, "auto", STREAM)
    assert raised.value.code is Exit.TARGET


@for_each(
    ("target", "interface", "kind"),
    [
        (lambda a, b: None, "wsgi", Kind.WSGI),
        (any_number, "wsgi", Kind.WSGI),
        (ClassOfThePep, "wsgi", Kind.WSGI),
        (max, "wsgi", Kind.WSGI),
        (any_number, "asgi", Kind.ASGI),
        (asgi_by_hand, "asgi", Kind.ASGI),
        (Mute(), "asgi", Kind.ASGI),
        (wsgi, "stream", Kind.SYNC_STREAM),
    ],
)
def test_a_named_interface_is_used_if_it_fits(target: Any, interface: str, kind: Kind) -> None:
    assert kind_of(target, interface, STREAM) is kind


def test_a_datagram_handler_with_asgi_parameter_names_must_be_named() -> None:
    assert kind_of(asgi, "datagram", DATAGRAM) is Kind.ASYNC_DATAGRAM


@for_each(
    ("target", "interface", "message"),
    [
        (asgi, "wsgi", r"asgi\(scope, receive, send\) cannot be called with 2 arguments, as --interface wsgi does$"),
        (wsgi, "asgi", r"cannot be called with 3 arguments, as --interface asgi does$"),
        (two, "wsgi", "two is async, and WSGI applications are called without await"),
        (asgi_2, "asgi", "like ASGI 2 applications"),
        (create_app, "wsgi", "as --interface wsgi does; if it is an application factory add --factory"),
        (create_app_with_options, "wsgi", "as --interface wsgi does; if it is an application factory add --factory"),
        (Asgi, "asgi", "as --interface asgi does; if it is an application factory add --factory"),
    ],
)
def test_a_named_interface_that_does_not_fit_is_refused(target: Any, interface: str, message: str) -> None:
    with pytest.raises(BootError, match=message) as raised:
        kind_of(target, interface, STREAM)
    assert raised.value.code is Exit.TARGET


@pytest.mark.parametrize(("target", "noun"), [(wsgi, "a WSGI"), (asgi, "an ASGI")])
def test_web_applications_need_stream_addresses(target: Any, noun: str) -> None:
    with pytest.raises(BootError, match=f"{noun} application cannot serve udp:// addresses: write --bind HOST:PORT"):
        kind_of(target, "auto", DATAGRAM)
