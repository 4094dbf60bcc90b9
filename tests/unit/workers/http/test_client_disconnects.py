"""Errors of an application that only report a disconnected client."""

from __future__ import annotations

import asyncio

import pytest
from support.rows import for_each

from hybrid.workers.http.exchange import ClientGoneError, is_client_disconnect


class ClientDisconnect(Exception):  # noqa: N818 - the name matters
    """Named like Starlette's."""


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def came_up(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


def in_place_of(error: BaseException, handled: BaseException) -> BaseException:
    """As with `raise error from None` while the other error is handled."""
    error.__context__, error.__suppress_context__ = handled, True
    return error


GONE = ClientGoneError("the client is gone")


@for_each(
    "error",
    [
        GONE,
        caused(LookupError(), GONE),
        caused(LookupError(), caused(OSError(), GONE)),
        in_place_of(LookupError(), GONE),
        BaseExceptionGroup("", [GONE, ExceptionGroup("", [GONE])]),
    ],
)
def test_an_error_caused_by_the_lost_client_is_a_disconnect(error: BaseException) -> None:
    assert is_client_disconnect(error, told=False)
    assert is_client_disconnect(error, told=True)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ClientDisconnect()], ids=["cancelled", "Starlette's"])
def test_framework_errors_are_disconnects_once_the_application_was_told(error: BaseException) -> None:
    assert is_client_disconnect(error, told=True)
    assert not is_client_disconnect(error, told=False)


@for_each(
    "error",
    [
        LookupError(),
        FileNotFoundError(),
        ConnectionRefusedError(),
        came_up(LookupError(), GONE),
        in_place_of(LookupError(), OSError()),
        BaseExceptionGroup("", [GONE, LookupError()]),
    ],
)
def test_an_unrelated_error_is_not_a_disconnect(error: BaseException) -> None:
    assert not is_client_disconnect(error, told=True)
