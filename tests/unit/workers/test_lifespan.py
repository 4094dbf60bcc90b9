"""The lifespan of an ASGI application: each mode with applications that support it, reject it or fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.hub import DEADLINE
from support.records import logged

from hybrid.workers.apps.asgi.lifespan import Lifespan
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit

Application = Callable[..., Awaitable[None]]
COMPLETE = {"type": "lifespan.startup.complete"}


async def knowing(scope: Any, receive: Any, send: Any) -> None:
    """An application that follows the whole specification, and counts in its state."""
    assert scope == {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["log"] = ["started"]
    await send(COMPLETE)
    assert await receive() == {"type": "lifespan.shutdown"}
    scope["state"]["log"].append("stopped")
    await send({"type": "lifespan.shutdown.complete"})


async def unknowing(scope: Any, receive: Any, send: Any) -> None:
    """Raise like an application that supports only HTTP."""
    assert scope["type"] == "http"


async def raising(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise LookupError("no database")


async def returning(scope: Any, receive: Any, send: Any) -> None:
    """Ignore the lifespan, without an error."""


async def exiting(scope: Any, receive: Any, send: Any) -> None:
    raise SystemExit(7)


def failing(message: str | None) -> Application:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        told = {} if message is None else {"message": message}
        await send({"type": "lifespan.startup.failed", **told})

    return app


def run(application: Application, mode: str = "auto", shutdown: float = DEADLINE) -> dict[str, Any] | None:
    """Start and shut down; return the state. Nothing is left in the loop."""

    async def main() -> dict[str, Any] | None:
        lifespan = Lifespan(application, mode)
        async with asyncio.timeout(DEADLINE):
            await lifespan.start_up()
            await lifespan.shut_down(shutdown)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return lifespan.state

    return asyncio.run(main())


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_an_application_starts_and_stops_with_its_state(mode: str) -> None:
    with logged() as lines:
        assert run(knowing, mode) == {"log": ["started", "stopped"]}
    assert lines == []


def test_off_never_calls_the_application() -> None:
    async def never(*args: Any) -> None:
        raise AssertionError("called")

    assert run(never, "off") is None


@pytest.mark.parametrize("application", [unknowing, returning])
def test_auto_continues_silently_without_a_lifespan(application: Application) -> None:
    with logged() as lines:
        assert run(application) is None
    assert lines == []


def test_auto_continues_with_a_warning_if_the_start_up_fails() -> None:
    with logged() as lines:
        assert run(raising) is None
    assert lines == ["WARNING the application's start-up failed; going on without a lifespan"]


@pytest.mark.parametrize(
    ("application", "why"),
    [
        (unknowing, "AssertionError"),
        (raising, "LookupError: no database"),
        (returning, "RuntimeError: it returned before lifespan.startup.complete"),
        (exiting, "SystemExit: 7"),
    ],
)
def test_on_fails_the_start(application: Application, why: str) -> None:
    with logged() as lines, pytest.raises(BootError, match="the application's start-up failed") as raised:
        run(application, "on")
    assert why in raised.value.reason
    assert raised.value.code is Exit.TARGET
    assert lines == ["ERROR the application's start-up failed"], "with the traceback"


def test_an_exit_fails_the_start_in_auto_too() -> None:
    with logged(), pytest.raises(BootError, match="SystemExit: 7"):
        run(exiting)


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no database", "no database"),
        ("Traceback (most recent call last):\n  File ...\nLookupError: no database\n", "LookupError: no database"),
        ("", "no reason given"),
        (None, "no reason given"),
    ],
)
def test_a_failed_start_up_fails_the_start_with_the_applications_message(
    mode: str, message: str | None, reason: str
) -> None:
    with logged() as lines, pytest.raises(BootError) as raised:
        run(failing(message), mode)
    assert raised.value.reason == f"the application's start-up failed: {reason}"
    assert any("Traceback" in line for line in lines) == ("Traceback" in (message or "")), "the whole of it is logged"


# --- afterwards


def after_start(then: Callable[..., Awaitable[None]]) -> Application:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(COMPLETE)
        await then(receive, send)

    return app


def test_a_lifespan_may_end_before_the_shutdown() -> None:
    async def at_once(receive: Any, send: Any) -> None:
        return

    with logged() as lines:
        assert run(after_start(at_once)) == {}
    assert lines == []


def test_an_error_during_the_lifespan_is_logged() -> None:
    async def breaks(receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("at the end")

    with logged() as lines:
        run(after_start(breaks))
    assert lines == ["ERROR the application's lifespan failed"]


def test_a_failed_shutdown_is_logged_with_the_applications_message() -> None:
    async def fails(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "could not save"})

    with logged() as lines:
        run(after_start(fails))
    assert lines == ["ERROR the application's shutdown failed: could not save"]


def test_a_shutdown_that_takes_too_long_is_cancelled() -> None:
    ended = []

    async def hangs(receive: Any, send: Any) -> None:
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with logged() as lines:
        run(after_start(hangs), shutdown=0)
    assert ended == [True]
    assert lines == ["ERROR the application's shutdown took longer than the grace period"]


def test_an_application_may_continue_after_the_shutdown() -> None:
    """`lifespan.shutdown.complete` is the end; the loop cancels the rest."""

    async def goes_on(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with logged() as lines:
        run(after_start(goes_on))
    assert lines == []


def test_unexpected_messages_raise() -> None:
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200})
        except RuntimeError as error:
            raised.append(str(error))
        await send(COMPLETE)

    run(app)
    assert raised == ["an application cannot send 'http.response.start' in its lifespan"]


def test_a_cancelled_start_cancels_the_application() -> None:
    log = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async def main() -> None:
        starting = asyncio.create_task(Lifespan(slow, "auto").start_up())
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.sleep(0)

    asyncio.run(main())
    assert log == ["cancelled"]
