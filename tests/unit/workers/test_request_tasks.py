"""Tasks for requests: one that never waits borrows a task, one that waits has it for itself; neither can tell."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest
from support.http import in_callback
from support.hub import run_on, turns
from support.loops import LOOPS

from hybrid.workers.common.frames import forget_frames
from hybrid.workers.tasks.request_tasks import NAME, RequestTasks

VALUE: contextvars.ContextVar[object] = contextvars.ContextVar("VALUE")
PLACES = [loop for loop in ("epoll", "asyncio", "uvloop") if loop in LOOPS]
Request = Callable[[], Coroutine[Any, Any, None]]


class Server:
    """Runs requests as a connection does: from callbacks of the loop."""

    def __init__(self) -> None:
        self.tasks = RequestTasks(asyncio.get_running_loop())

    async def run(self, *requests: Request) -> list[asyncio.Task[None] | None]:
        """Run requests one after another in one turn of the loop; return the result of `run` for each."""
        started: list[asyncio.Task[None] | None] = []

        def start() -> None:
            for request in requests:
                started.append(self.tasks.run(request()))
                assert _nobody_runs()

        await in_callback(start)
        return started

    async def finish(self, *requests: Request) -> None:
        """Run requests and wait for those that wait."""
        for task in await self.run(*requests):
            if task is not None:
                await task


def _nobody_runs() -> bool:
    return asyncio.current_task() is None


Scenario = Callable[[Server], Awaitable[None]]


def on_loops(scenario: Scenario) -> Callable[[str], None]:
    """Make a test of a scenario: on three loops, and no task is left behind."""

    @pytest.mark.parametrize("loop", PLACES)
    @functools.wraps(scenario)
    def test(loop: str) -> None:
        async def main(_: object) -> None:
            server = Server()
            try:
                await scenario(server)
            finally:
                server.tasks.close()
                await turns()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_on(loop, main)

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would take its parameter for a fixture
    return test


@on_loops
async def test_a_request_that_never_waits_ends_immediately(server: Server) -> None:
    seen: list[str] = []

    async def request() -> None:
        task = asyncio.current_task()
        assert isinstance(task, asyncio.Task)
        assert task is asyncio.current_task()
        seen.append(task.get_name())

    assert await server.run(request, request) == [None, None]
    assert seen == [NAME, NAME]


async def spare_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that wait for requests."""
    await turns()
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@on_loops
async def test_a_request_that_leaves_no_trace_gives_its_task_back(server: Server) -> None:
    """A request may look at its task: if it keeps no reference, the task is reused."""
    log: list[str] = []

    async def looks() -> None:
        task = asyncio.current_task()
        assert task is not None
        log.append(repr(task))
        assert task in asyncio.all_tasks()
        async with asyncio.timeout(60):
            pass
        token = VALUE.set(1)
        VALUE.reset(token)

    async def fails() -> None:
        try:
            raise LookupError
        except LookupError as error:
            log.append(repr(error))

    for state in STATES:
        await state(server)
        await server.finish(nothing)
        before = await spare_tasks()
        await server.finish(looks, fails, nothing)
        assert await spare_tasks() == before


def _name(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    task.set_name("of alice")


def _attribute(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    task.user = "alice"  # type: ignore[attr-defined]


def _flag_of_asyncio(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _key(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    kept.setdefault("strong", {})[task] = "alice"


def _weak_key(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    kept.setdefault("weak", weakref.WeakKeyDictionary())[task] = "alice"


def _weak_reference(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    kept.setdefault("references", []).append(weakref.ref(task))


def _cancelled_and_not(task: asyncio.Task[Any], kept: dict[str, Any]) -> None:
    task.cancel()
    task.uncancel()


TRACES = (_name, _attribute, _flag_of_asyncio, _key, _weak_key, _weak_reference, _cancelled_and_not)


@pytest.mark.parametrize("leave", TRACES)
@pytest.mark.parametrize("loop", PLACES)
def test_nothing_that_is_tied_to_a_task_reaches_the_next_request(
    loop: str, leave: Callable[[asyncio.Task[Any], dict[str, Any]], None]
) -> None:
    """Attributes, the name, values stored with the task as a key, strongly or weakly, a cancellation."""

    async def main(_: object) -> None:
        server = Server()
        kept: dict[str, Any] = {}
        log: list[str] = []

        async def leaves() -> None:
            task = asyncio.current_task()
            assert task is not None
            leave(task, kept)

        async def looks() -> None:
            task = asyncio.current_task()
            assert task is not None
            assert task.get_name() == NAME
            assert not hasattr(task, "user")
            assert task not in kept.get("strong", {})
            assert task not in kept.get("weak", {})
            assert task not in [reference() for reference in kept.get("references", ())]
            assert task._log_destroy_pending  # type: ignore[attr-defined]
            log.append("clean")

        async def waits() -> None:
            await asyncio.sleep(0)
            await looks()

        for state in STATES:
            for another in (looks, waits):
                await state(server)
                await server.finish(leaves, another)
        assert log == ["clean"] * 4
        server.tasks.close()
        await turns()

    run_on(loop, main)


@on_loops
async def test_a_task_that_was_kept_ends_as_others_do(server: Server) -> None:
    """Waiting for the task of a finished request ends."""
    kept: list[asyncio.Task[Any]] = []

    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)

    for state in STATES:
        await state(server)
        await server.finish(request, request)
    await asyncio.wait_for(asyncio.gather(*kept), 5)
    assert len(set(kept)) == 4


@on_loops
async def test_a_request_that_waits_keeps_its_task(server: Server) -> None:
    seen: list[asyncio.Task[Any] | None] = []

    async def request() -> None:
        for pause in (0, 0.001, 0):
            seen.append(asyncio.current_task())
            await asyncio.sleep(pause)
        seen.append(asyncio.current_task())

    for _ in range(3):  # with a new task, and with one that is parked
        seen.clear()
        (task,) = await server.run(request)
        assert task is not None
        assert not task.done()
        await task
        assert seen == [task] * 4
        await server.finish(nothing)


async def nothing() -> None:
    """A request that never waits."""


@on_loops
async def test_requests_at_the_same_time_have_tasks_of_their_own(server: Server) -> None:
    gate = asyncio.Event()

    async def request() -> None:
        await gate.wait()

    tasks = await server.run(request, nothing, request, nothing, request)
    waiting = [task for task in tasks if task is not None]
    assert len(set(waiting)) == 3
    gate.set()
    await asyncio.gather(*waiting)


# --- contexts


def setting(value: object, waits: bool) -> Request:
    async def request() -> None:
        assert VALUE.get(None) is None, "the value of another request"
        VALUE.set(value)
        if waits:
            await asyncio.sleep(0)
        assert VALUE.get() is value

    return request


@on_loops
async def test_no_request_sees_variables_of_another(server: Server) -> None:
    async def looking() -> None:
        assert VALUE.get(None) is None

    for waits in (False, True):
        for _ in range(2):
            await server.finish(setting(1, waits), looking, setting([], waits), looking)
            await turns()
    assert VALUE.get(None) is None


@on_loops
async def test_a_value_that_is_set_back_leaves_the_context_as_it_was(server: Server) -> None:
    async def request() -> None:
        token = VALUE.set(1)
        VALUE.reset(token)

    await server.finish(request)
    await turns()
    before = asyncio.all_tasks()
    await server.finish(request)
    assert asyncio.all_tasks() == before, "the spare task is used again"


@on_loops
async def test_an_equal_value_is_another_one_all_the_same(server: Server) -> None:
    """The loop's own context has a list; a request that puts in an equal one must not give it to the next."""
    first: list[int] = []
    VALUE.set(first)
    server.tasks = RequestTasks(asyncio.get_running_loop())

    async def request() -> None:
        assert VALUE.get() is first
        VALUE.set([])

    await server.finish(request, request)
    await turns()
    await server.finish(request)


@on_loops
async def test_values_need_not_be_comparable(server: Server) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ask somebody else")

        __hash__ = None  # type: ignore[assignment]

    VALUE.set(Odd())
    server.tasks = RequestTasks(asyncio.get_running_loop())

    async def request() -> None:
        VALUE.set(Odd())

    await server.finish(request, request)


@on_loops
async def test_code_after_a_wait_runs_in_the_requests_context(server: Server) -> None:
    seen: list[object] = []

    async def request() -> None:
        VALUE.set("mine")
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append(VALUE.get(None))
            VALUE.set("still mine")
        await asyncio.sleep(0)
        seen.append(VALUE.get(None))

    for _ in range(2):
        await server.finish(request)
        await server.finish(nothing)
        await turns()
    assert seen == ["mine", "still mine"] * 2
    assert VALUE.get(None) is None


@on_loops
async def test_a_subtask_gets_a_copy_of_the_context(server: Server) -> None:
    seen = []

    async def child() -> None:
        seen.append(VALUE.get())
        VALUE.set("child")

    async def request() -> None:
        VALUE.set("parent")
        await asyncio.create_task(child())
        seen.append(VALUE.get())

    await server.finish(request)
    assert seen == ["parent", "parent"]


# --- cancelling


async def parked(server: Server) -> None:
    """Bring the spare task to its gate."""
    await server.finish(nothing)
    await turns()


async def fresh(server: Server) -> None:
    """Drop the spare task: the next request gets a new one, which has not taken its first step."""


STATES = (parked, fresh)


@on_loops
async def test_cancelling_oneself_takes_effect_at_the_next_wait(server: Server) -> None:
    log: list[str] = []

    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("enough")
        log.append("goes on")
        inner = asyncio.get_running_loop().create_future()
        try:
            await inner
        except asyncio.CancelledError as error:
            log.append(f"{error.args} {inner.cancelled()} {task.cancelling()}")
            assert asyncio.current_task() is task
            task.uncancel()
        await asyncio.sleep(0)
        log.append("and on")

    for state in STATES:
        await state(server)
        await server.finish(request)
    assert log == ["goes on", "('enough',) True 1", "and on"] * 2


@on_loops
async def test_cancelling_oneself_without_a_wait_changes_nothing_for_the_next_request(server: Server) -> None:
    log: list[str] = []

    async def cancels() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def waits() -> None:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0.001)
        log.append("through")

    for state in STATES:
        await state(server)
        await server.finish(cancels, waits)
    assert log == ["through", "through"]


@on_loops
async def test_a_cancellation_from_outside_cancels_the_awaited_object(server: Server) -> None:
    inner: list[asyncio.Future[None]] = []

    async def request() -> None:
        inner.append(asyncio.get_running_loop().create_future())
        await inner[-1]

    for state in STATES:
        await state(server)
        started: list[asyncio.Task[None]] = []

        def start_and_cancel(started: list[asyncio.Task[None]] = started) -> None:
            task = server.tasks.run(request())
            assert task is not None
            started.append(task)
            assert task.cancel("now")

        await in_callback(start_and_cancel)
        with pytest.raises(asyncio.CancelledError, match="now"):
            await started[0]
        assert inner[-1].cancelled()
        assert started[0].cancelled()


@on_loops
async def test_a_shielded_wait_is_left(server: Server) -> None:
    shielded = asyncio.get_running_loop().create_future()
    log = []

    async def request() -> None:
        try:
            await asyncio.shield(shielded)
        except asyncio.CancelledError:
            log.append("left")
            raise

    for state in STATES:
        await state(server)
        (task,) = await server.run(request)
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not shielded.done()
    assert log == ["left", "left"]


@on_loops
async def test_cancelling_all_tasks_does_not_break_the_next_request(server: Server) -> None:
    """As some applications do at their end, and some test clients in between."""
    done = []

    async def request() -> None:
        await asyncio.sleep(0)
        done.append(True)

    for state in STATES:
        await state(server)
        for together in (True, False):
            await server.run(nothing)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            if not together:
                await turns()
            await server.finish(request)
    assert len(done) == 4


@on_loops
async def test_timeouts_work_before_and_after_the_first_wait(server: Server) -> None:
    log = []

    async def request() -> None:
        for _ in range(2):
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(60)
            except TimeoutError:
                log.append("too long")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0)

    for state in STATES:
        await state(server)
        await server.finish(request)
    assert log == ["too long"] * 4


@on_loops
async def test_task_groups_end_their_tasks(server: Server) -> None:
    log = []

    async def child(delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        raise LookupError

    async def request() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child(60))
                group.create_task(child(0))
        except* LookupError:
            log.append("failed")

    for state in STATES:
        await state(server)
        await server.finish(request)
    assert log == ["cancelled", "failed"] * 2


@on_loops
async def test_the_scopes_of_anyio_work(server: Server) -> None:
    log: list[object] = []

    async def request() -> None:
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(60)
        log.append(scope.cancelled_caught)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(60)
        log.append(scope.cancelled_caught)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 60)
            group.cancel_scope.cancel()
        log.append(await anyio.to_thread.run_sync(lambda: VALUE.get("of the thread")))
        await anyio.lowlevel.checkpoint()

    async def at_once() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        log.append(scope.cancelled_caught)

    for state in STATES:
        await state(server)
        await server.finish(request, at_once)
    assert sorted(map(str, log)) == sorted(["True", "True", "of the thread", "True"] * 2)


# --- attributes of a task


@on_loops
async def test_a_task_can_be_looked_at_in_every_state(server: Server) -> None:
    looked: list[str] = []

    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        looked.append(repr(task))
        assert task.get_name() == NAME
        assert task.get_stack() or not inspect.iscoroutine(task.get_coro())
        assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_RUNNING  # type: ignore[arg-type]
        await asyncio.sleep(0.002)
        looked.append(repr(task))
        assert task.get_stack()

    for state in STATES:
        await state(server)
        for task in asyncio.all_tasks():
            looked.append(repr(task))
            task.get_stack()
        (task,) = await server.run(request)
        assert task is not None
        assert "request()" in repr(task)
        assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_SUSPENDED  # type: ignore[arg-type]
        await task
        assert task.done()
        assert task.result() is None
    assert all("Task" in line for line in looked)


@on_loops
async def test_an_idle_server_has_one_spare_task(server: Server) -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    await server.finish(waits, nothing, waits, setting(1, False), waits, nothing)
    await turns()
    assert len(asyncio.all_tasks()) <= 2, "this test's and the spare one"


@on_loops
async def test_waiters_for_the_task_of_a_request_are_woken_at_its_end(server: Server) -> None:
    ended: list[asyncio.Task[None]] = []

    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(ended.append)

    for state in STATES:
        await state(server)
        await server.finish(request)
        await turns()
    assert [task.done() for task in ended] == [True, True]
    assert ended[0] is not ended[1]


@on_loops
async def test_debug_mode_changes_nothing(server: Server) -> None:
    asyncio.get_running_loop().set_debug(True)
    await parked(server)
    await server.finish(setting(1, True), setting(2, False), nothing)


@on_loops
async def test_eager_tasks_of_a_request_see_themselves(server: Server) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("Python 3.12 has them first")
    if type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip("some versions of uvloop give the factory an argument that it does not take")
    seen = []

    async def child() -> None:
        seen.append(asyncio.current_task())

    async def request() -> None:
        mine = asyncio.current_task()
        await asyncio.create_task(child())
        seen.append(asyncio.current_task())
        assert seen[-1] is mine
        await asyncio.sleep(0)
        await asyncio.create_task(child())
        assert asyncio.current_task() is mine

    asyncio.get_running_loop().set_task_factory(factory)
    for state in STATES:
        await state(server)
        await server.finish(request)
    assert len(seen) == 6


@on_loops
async def test_a_cancellation_that_reaches_the_server_is_dropped(server: Server) -> None:
    async def request() -> None:
        raise asyncio.CancelledError

    assert await server.run(request) == [None]
    await server.finish(nothing)


# --- leftovers of a request


async def _waits() -> None:
    await asyncio.sleep(0)


async def _fails() -> None:
    try:
        await asyncio.sleep(0)
        raise LookupError
    except LookupError as error:
        error.__traceback__ = None  # as the server does when it has logged it


async def _fails_in_a_group() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
    except ExceptionGroup as error:
        forget_frames(error)


async def _cancels_itself_before_the_wait() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    del task
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def _is_cancelled_while_it_waits() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    del task
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(10)


async def _sets_a_value() -> None:
    VALUE.set(1)


@pytest.mark.parametrize(
    "request_of",
    [
        _waits,
        _fails,
        _fails_in_a_group,
        _cancels_itself_before_the_wait,
        _is_cancelled_while_it_waits,
        _sets_a_value,
    ],
)
@pytest.mark.parametrize("loop", PLACES)
def test_a_request_that_is_over_leaves_nothing_to_the_garbage_collector(loop: str, request_of: Request) -> None:
    """No frame, no task: a cycle would keep sockets, bodies and context variables until a collection."""

    class Held:
        pass

    async def main(_: object) -> None:
        server = Server()
        kept: list[weakref.ref[Any]] = []

        async def request() -> None:
            held = Held()
            kept.append(weakref.ref(held))
            await request_of()
            task = asyncio.current_task()
            assert task is not None
            kept.append(weakref.ref(task))

        for state in STATES:
            await state(server)
            await server.run(request)
            await turns()
        server.tasks.close()
        await turns()
        assert len(kept) == 4
        assert [reference() for reference in kept] == [None] * 4

    gc.disable()
    try:
        run_on(loop, main)
    finally:
        gc.enable()
