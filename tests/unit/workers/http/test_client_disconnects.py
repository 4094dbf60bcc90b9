"""Which errors of an application say no more than that its client is gone."""

from __future__ import annotations

import asyncio

import pytest

from hybrid.workers.http.exchange import ClientGoneError, is_client_disconnect


class ClientDisconnect(Exception):  # noqa: N818 - its name is what counts
    """As Starlette names it."""


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def came_up(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


def in_place_of(error: BaseException, handled: BaseException) -> BaseException:
    """As `raise error from None` does while the other one is handled."""
    error.__context__, error.__suppress_context__ = handled, True
    return error


GONE = ClientGoneError("the client is gone")


@pytest.mark.parametrize(
    "error",
    [
        GONE,
        caused(LookupError(), GONE),
        caused(LookupError(), caused(OSError(), GONE)),
        in_place_of(LookupError(), GONE),
        BaseExceptionGroup("", [GONE, ExceptionGroup("", [GONE])]),
    ],
    ids=["itself", "caused by it", "caused by way of another", "in its place", "a group of nothing else"],
)
def test_an_error_that_comes_from_the_loss_of_the_client_is_a_departure(error: BaseException) -> None:
    assert is_client_disconnect(error, told=False)
    assert is_client_disconnect(error, told=True)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ClientDisconnect()], ids=["cancelled", "Starlette's"])
def test_errors_of_frameworks_are_departures_once_the_application_was_told(error: BaseException) -> None:
    assert is_client_disconnect(error, told=True)
    assert not is_client_disconnect(error, told=False)


@pytest.mark.parametrize(
    "error",
    [
        LookupError(),
        FileNotFoundError(),
        ConnectionRefusedError(),
        came_up(LookupError(), GONE),
        in_place_of(LookupError(), OSError()),
        BaseExceptionGroup("", [GONE, LookupError()]),
    ],
    ids=["error", "file", "database", "in the clean-up", "in the place of another", "beside it in a group"],
)
def test_an_error_with_a_reason_of_its_own_is_none(error: BaseException) -> None:
    assert not is_client_disconnect(error, told=True)
