"""Detection of an application's kind: a table of signatures, and the errors for ambiguous ones."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from support.rows import for_each

from hybrid.workers.apps.detect import HTTP_KINDS, INTERFACES, Kind, check_http, is_coroutine_function, kind_of
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.worker_spec import ListenerKind
from hybrid.workers.http.settings import HttpSettings, Tls

STREAM = frozenset({ListenerKind.STREAM})
DATAGRAM = frozenset({ListenerKind.DATAGRAM})


def two(sock: Any, address: Any) -> None: ...
def three(data: Any, address: Any, transport: Any) -> None: ...
async def async_two(reader: Any, writer: Any) -> None: ...
async def async_three(data: Any, address: Any, transport: Any) -> None: ...
def one(sock: Any) -> None: ...
def four(a: Any, b: Any, c: Any, d: Any) -> None: ...
def none() -> None: ...
def any_number(*args: Any) -> None: ...
def two_or_three(a: Any, b: Any, c: Any = None) -> None: ...
def two_and_keyword(a: Any, b: Any, *, c: Any = None) -> None: ...
def positional_only(a: Any, b: Any, /) -> None: ...


class Proto(asyncio.Protocol): ...


class Buffered(asyncio.BufferedProtocol): ...


class DuckProtocol:
    def data_received(self, data: bytes) -> None: ...


class Other:
    def __init__(self, a: Any, b: Any) -> None: ...


class Callable2:
    def __call__(self, a: Any, b: Any) -> None: ...


class AsyncCallable2:
    async def __call__(self, a: Any, b: Any) -> None: ...


class Owner:
    def method(self, a: Any, b: Any) -> None: ...
    async def async_method(self, a: Any, b: Any) -> None: ...
    @staticmethod
    def static(a: Any, b: Any) -> None: ...
    @classmethod
    async def of_the_class(cls, a: Any, b: Any) -> None: ...


@functools.wraps(async_two)
async def wrapped(*args: Any) -> None: ...


@for_each(
    ("target", "kind"),
    [
        (two, Kind.SYNC_STREAM),
        (async_two, Kind.ASYNC_STREAM),
        (positional_only, Kind.SYNC_STREAM),
        (two_and_keyword, Kind.SYNC_STREAM),
        (Callable2(), Kind.SYNC_STREAM),
        (AsyncCallable2(), Kind.ASYNC_STREAM),
        (Owner().method, Kind.SYNC_STREAM),
        (Owner().async_method, Kind.ASYNC_STREAM),
        (Owner.static, Kind.SYNC_STREAM),
        (Owner.of_the_class, Kind.ASYNC_STREAM),
        (functools.partial(three, b""), Kind.SYNC_STREAM),
        (functools.partial(async_three, b""), Kind.ASYNC_STREAM),
        (functools.partial(functools.partial(four, 1), 2), Kind.SYNC_STREAM),
        (wrapped, Kind.ASYNC_STREAM),
        (lambda sock, address: None, Kind.SYNC_STREAM),
        (Proto, Kind.PROTOCOL),
        (Buffered, Kind.PROTOCOL),
        (DuckProtocol, Kind.PROTOCOL),
    ],
)
def test_streams_and_protocols_are_recognised(target: Any, kind: Kind) -> None:
    assert kind_of(target, "auto", STREAM) is kind


@pytest.mark.parametrize(("target", "kind"), [(three, Kind.SYNC_DATAGRAM), (async_three, Kind.ASYNC_DATAGRAM)])
def test_datagram_handlers_are_recognised(target: Any, kind: Kind) -> None:
    assert kind_of(target, "auto", DATAGRAM) is kind


@for_each(
    ("target", "message"),
    [
        (one, r"cannot tell what kind of application one is: it takes \(sock\); write --interface wsgi or"),
        (four, r"four is: it takes \(a, b, c, d\)"),
        (none, r"none is: it takes \(\)"),
        (any_number, r"any_number is"),
        (two_or_three, r"two_or_three is: it takes \(a, b\)"),
        (Other, r"cannot tell what kind of application the class Other is: it takes \(a, b\)"),
        (max, r"max is"),
        (dict.fromkeys, r"fromkeys"),
        (7, "the target is a int, not something to call: 7"),
        (None, "the target is a NoneType, not something to call"),
    ],
)
def test_ambiguous_targets_are_refused(target: Any, message: str) -> None:
    with pytest.raises(BootError, match=message) as raised:
        kind_of(target, "auto", STREAM)
    assert raised.value.code is Exit.TARGET


@for_each(
    ("target", "interface", "listeners", "kind"),
    [
        (any_number, "stream", STREAM, Kind.SYNC_STREAM),
        (two_or_three, "stream", STREAM, Kind.SYNC_STREAM),
        (async_two, "stream", STREAM, Kind.ASYNC_STREAM),
        (max, "stream", STREAM, Kind.SYNC_STREAM),
        (any_number, "datagram", DATAGRAM, Kind.SYNC_DATAGRAM),
        (none, "protocol", STREAM, Kind.PROTOCOL),
        (Other, "protocol", STREAM, Kind.PROTOCOL),
        (any_number, "protocol", STREAM, Kind.PROTOCOL),
        (three, "auto", frozenset(), Kind.SYNC_DATAGRAM),
    ],
)
def test_a_named_interface_is_used_if_it_fits(target: Any, interface: str, listeners: Any, kind: Kind) -> None:
    assert kind_of(target, interface, listeners) is kind


@pytest.mark.parametrize(
    ("target", "interface", "message"),
    [
        (one, "stream", r"one\(sock\) cannot be called with 2 arguments, as --interface stream does"),
        (two, "datagram", r"two\(sock, address\) cannot be called with 3 arguments"),
        (two, "protocol", r"cannot be called with 0 arguments, as --interface protocol does"),
    ],
)
def test_a_named_interface_that_does_not_fit_is_refused(target: Any, interface: str, message: str) -> None:
    with pytest.raises(BootError, match=message) as raised:
        kind_of(target, interface, STREAM)
    assert raised.value.code is Exit.TARGET


def test_an_unknown_interface_is_a_usage_error() -> None:
    with pytest.raises(BootError, match=f"unknown interface 'wsgj': use one of {', '.join(INTERFACES)}") as raised:
        kind_of(two, "wsgj", STREAM)
    assert raised.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("target", "listeners", "message"),
    [
        (two, DATAGRAM, "a sync stream handler cannot serve udp:// addresses"),
        (Proto, STREAM | DATAGRAM, "a protocol handler cannot serve udp:// addresses"),
        (three, STREAM, r"a datagram handler needs a datagram address: write --bind udp://HOST:PORT$"),
        (async_three, STREAM, "if the target is an ASGI application add --interface asgi"),
    ],
)
def test_addresses_of_the_other_sort_are_refused(target: Any, listeners: Any, message: str) -> None:
    with pytest.raises(BootError, match=message):
        kind_of(target, "auto", listeners)


def test_coroutine_functions_are_recognised() -> None:
    assert is_coroutine_function(functools.partial(async_two, 1))
    assert is_coroutine_function(AsyncCallable2())
    assert not is_coroutine_function(two)
    assert not is_coroutine_function(functools.partial(Callable2()))
    assert not is_coroutine_function(AsyncCallable2), "calling the class gives an instance"


class Untold:
    """A callable without a useful signature."""

    __signature__ = "nonsense"

    def __call__(self, *args: Any) -> None: ...


def test_a_target_with_an_unknown_signature_must_be_named() -> None:
    with pytest.raises(BootError, match="its signature is unknown"):
        kind_of(Untold(), "auto", STREAM)
    assert kind_of(Untold(), "stream", STREAM) is Kind.SYNC_STREAM


# --- options of HTTP


@pytest.mark.parametrize(
    ("http", "option"),
    [(HttpSettings(tls=Tls(b"", b"")), "--certfile"), (HttpSettings(proxy_protocol=True), "--proxy-protocol")],
)
@pytest.mark.parametrize("kind", sorted(set(Kind) - HTTP_KINDS, key=lambda kind: kind.value))
def test_http_options_are_refused_for_other_kinds(http: HttpSettings, option: str, kind: Kind) -> None:
    said = f"{option} is for WSGI and ASGI applications, but the target is an? {kind.noun}: leave {option} out"
    with pytest.raises(BootError, match=said):
        check_http(kind, http)


def test_http_options_are_accepted_for_web_applications() -> None:
    check_http(Kind.WSGI, HttpSettings(tls=Tls(b"", b""), proxy_protocol=True))
    check_http(Kind.SYNC_STREAM, HttpSettings())


def test_an_application_with_its_own_server_is_refused_with_a_hint() -> None:
    from aiohttp import web

    for interface in ("auto", "asgi", "wsgi"):
        with pytest.raises(BootError) as raised:
            kind_of(web.Application(), interface, STREAM)
        assert raised.value.code is Exit.TARGET
        assert raised.value.reason.startswith("the target is an aiohttp application")
        assert "aiohttp.web.run_app" in raised.value.reason
