"""Hooks: how functions are registered and loaded, how each is called, and what a failure says."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import hybrid
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.hooks import early, life, loading, readiness, registry
from hybrid.workers.hooks.calling import Calls, Outcome
from hybrid.workers.hooks.life import LifeHooks
from hybrid.workers.hooks.registry import Hook
from hybrid.workers.identity import Identity
from hybrid.workers.loops.driver import run
from hybrid.workers.loops.registry import load as load_loop
from hybrid.workers.runtime import Runtime

WORKER = Identity("web", 3, 7, 4711, "epoll")
NAMES = [hook.value for hook in Hook]


@pytest.fixture(autouse=True)
def no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without any hook."""
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Give a function that writes a module and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> str:
        (tmp_path / "its_hooks.py").write_text(source)
        monkeypatch.delitem(sys.modules, "its_hooks", raising=False)
        return "its_hooks"

    return write


def in_loop(main: Callable[[Runtime], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine on the hub; return its result."""
    return run(load_loop("epoll"), main)


def nothing(worker: Identity) -> None:
    """Be a hook."""


# --- registering


def test_a_decorator_and_a_call_register_in_order() -> None:
    @hybrid.on("worker_start")
    def first(worker: Identity) -> None: ...

    assert hybrid.on("worker_start", nothing) is nothing
    assert registry.functions(Hook.WORKER_START) == (first, nothing)
    assert registry.functions(Hook.WORKER_STOP) == ()


def test_a_function_that_is_registered_twice_is_called_once() -> None:
    hybrid.on("worker_stop", nothing)
    hybrid.on("worker_stop", nothing)
    assert registry.functions(Hook.WORKER_STOP) == (nothing,)


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match=r"there is no hook 'worker_started': did you mean 'worker_start'\?"):
        hybrid.on("worker_started", nothing)


def test_a_name_that_is_like_none_is_refused_with_all() -> None:
    with pytest.raises(ValueError, match=f"there is no hook 'pre_exec': use one of {', '.join(NAMES)}"):
        hybrid.on("pre_exec")


@pytest.mark.parametrize("name", ["zygote_warm", "after_fork"])
def test_a_hook_before_the_loop_cannot_be_async(name: str) -> None:
    async def connect(*_: object) -> None: ...

    with pytest.raises(
        TypeError, match=f"the hook {name} runs before there is a loop: make .*connect a plain function"
    ):
        hybrid.on(name, connect)


@pytest.mark.parametrize("name", NAMES)
def test_a_function_with_other_parameters_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=rf"\(a, b\) cannot be called as the hook {name}\("):
        hybrid.on(name, lambda a, b: None)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="the hook worker_stop needs a function, not 'close'"):
        hybrid.on("worker_stop", "close")  # type: ignore[call-overload]


def test_a_builtin_without_a_signature_and_a_partial_are_taken() -> None:
    for function in (print, functools.partial(nothing)):
        assert hybrid.on("worker_stop", function) is function


# --- a module of hooks


def test_functions_of_a_module_are_registered_by_their_names(module: Callable[[str], str]) -> None:
    loading.load(module("def worker_start(worker): pass\nasync def worker_stop(worker): pass\ndef other(): pass\n"))
    found = [one.__name__ for hook in Hook for one in registry.functions(hook)]
    assert found == ["worker_start", "worker_stop"]


def test_a_decorated_function_with_the_name_of_its_hook_is_called_once(module: Callable[[str], str]) -> None:
    loading.load(module("import hybrid\n@hybrid.on('worker_start')\ndef worker_start(worker): pass\n"))
    assert len(registry.functions(Hook.WORKER_START)) == 1


def test_a_missing_module_says_where_to_start(module: Callable[[str], str]) -> None:
    with pytest.raises(BootError, match=r"the hooks 'no\.such': there is no module 'no' on the path") as info:
        loading.load("no.such")
    assert info.value.code is Exit.TARGET


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("\nraise SystemExit('no licence')", "SystemExit: no licence"),
        ("\nraise RuntimeError('no database')", "RuntimeError: no database"),
        ("import hybrid\nhybrid.on('worker_begin')", "there is no hook 'worker_begin'"),
        ("async def after_fork(worker): pass", "make its_hooks.after_fork a plain function"),
    ],
)
def test_a_module_that_fails_says_why(module: Callable[[str], str], source: str, says: str) -> None:
    with pytest.raises(BootError) as info:
        loading.load(module(source))
    assert info.value.reason.startswith("cannot import the hooks 'its_hooks': ")
    assert says in info.value.reason
    assert "/workers/" not in info.value.reason, "no frames of hybrid"


def test_a_failure_at_the_import_has_its_line(module: Callable[[str], str]) -> None:
    with pytest.raises(BootError, match=r'its_hooks.py", line 2, in <module>'):
        loading.load(module("\nraise RuntimeError('no database')"))


def test_a_module_without_hooks_is_logged(module: Callable[[str], str], caplog: pytest.LogCaptureFixture) -> None:
    loading.load(module("def start(worker): pass"))
    assert "--hooks its_hooks has no effect" in caplog.text


# --- before the loop


def test_early_hooks_get_the_worker_and_are_called_in_order() -> None:
    called: list[object] = []
    hybrid.on("after_fork", called.append)
    hybrid.on("after_fork", lambda worker: called.append(worker.slot))
    hybrid.on("zygote_warm", lambda: called.append("warm"))
    early.call(Hook.AFTER_FORK, WORKER)
    early.call(Hook.ZYGOTE_WARM)
    assert called == [WORKER, 3, "warm"]


def test_an_early_hook_that_fails_is_a_boot_failure_with_its_line() -> None:
    def connect(worker: Identity) -> None:
        raise LookupError("no database")

    hybrid.on("after_fork", connect)
    with pytest.raises(BootError) as info:
        early.call(Hook.AFTER_FORK, WORKER)
    first, *lines = info.value.reason.splitlines()
    assert first.startswith("the hook after_fork failed: ")
    assert first.endswith("connect: LookupError: no database")
    assert any("test_hooks.py" in line and "in connect" in line for line in lines)


@pytest.mark.filterwarnings("error")
def test_an_early_hook_that_returns_a_coroutine_is_a_boot_failure() -> None:
    async def later() -> None: ...

    hybrid.on("after_fork", lambda worker: later())
    with pytest.raises(BootError, match="TypeError: it returned a coroutine, and there is no loop yet to run it"):
        early.call(Hook.AFTER_FORK, WORKER)


# --- in the loop


def outcome_of(function: Callable[..., Any], seconds: float | None = None) -> Outcome:
    """Call a function as a hook on the hub; return the outcome."""
    found: Outcome = in_loop(lambda runtime: Calls(runtime, WORKER).outcome(Hook.READY_CHECK, function, seconds))
    return found


async def slot_later(worker: Identity) -> int:
    await asyncio.sleep(0)
    return worker.slot


def slot_green(worker: Identity) -> int:
    hybrid.sleep(0)
    return worker.slot


def slot_awaited(worker: Identity) -> int:
    return hybrid.await_(slot_later(worker))


class Unhashable:
    """A callable object without a hash."""

    __hash__ = None  # type: ignore[assignment]

    async def __call__(self, worker: Identity) -> int:
        return worker.slot


@pytest.mark.parametrize(
    "function",
    [
        Unhashable(),
        slot_later,
        slot_green,
        slot_awaited,
        lambda worker: worker.slot,
        slot_later.__call__,
        lambda w: slot_later(w),
    ],
)
def test_sync_and_async_functions_give_their_value(function: Callable[..., Any]) -> None:
    assert outcome_of(function) == Outcome(3)


def test_a_sync_function_does_not_see_the_running_loop() -> None:
    """Otherwise Django refuses its ORM."""

    def look(worker: Identity) -> object:
        before = asyncio._get_running_loop()
        hybrid.sleep(0)
        return before, asyncio._get_running_loop()

    assert outcome_of(look) == Outcome((None, None))


@pytest.mark.parametrize("error", [RuntimeError("x"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("is_async", [True, False])
def test_any_error_is_the_outcome_and_the_loop_goes_on(error: BaseException, is_async: bool) -> None:
    def fail(worker: Identity) -> None:
        raise error

    async def fail_later(worker: Identity) -> None:
        raise error

    assert outcome_of(fail_later if is_async else fail).error is error


def test_at_its_deadline_a_function_is_cancelled() -> None:
    ended: list[str] = []

    async def hang(worker: Identity) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("async")

    def hang_green(worker: Identity) -> None:
        try:
            hybrid.sleep(3600)
        finally:
            ended.append("sync")

    async def main(runtime: Runtime) -> list[Outcome]:
        calls = Calls(runtime, WORKER)
        found = [await calls.outcome(Hook.READY_CHECK, function, 0.01) for function in (hang, hang_green)]
        while len(ended) < 2:
            await asyncio.sleep(0)
        return found

    outcomes = in_loop(main)
    assert [str(one.error) for one in outcomes] == ["it did not end before its deadline"] * 2


def test_a_function_that_goes_on_is_not_called_a_second_time() -> None:
    calls = 0

    async def main(runtime: Runtime) -> Outcome:
        release = asyncio.Event()

        async def refuse(worker: Identity) -> None:
            nonlocal calls
            calls += 1
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        under_test = Calls(runtime, WORKER)
        await under_test.outcome(Hook.READY_CHECK, refuse, 0.01)
        second = await under_test.outcome(Hook.READY_CHECK, refuse, 0.01)
        release.set()
        return second

    assert str(in_loop(main).error) == "its last call has not ended"
    assert calls == 1


def test_a_failed_start_names_the_function_and_the_line() -> None:
    async def open_pool(worker: Identity) -> None:
        raise OSError("refused")

    hybrid.on("worker_start", open_pool)
    with pytest.raises(BootError) as info:
        in_loop(lambda runtime: LifeHooks(runtime, WORKER, 5.0).start())
    assert "open_pool: OSError: refused\n" in info.value.reason
    assert "in open_pool" in info.value.reason
    assert "/workers/hooks/" not in info.value.reason


def test_a_start_hook_that_waits_for_long_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(life, "SLOW", 0.0)

    async def open_pool(worker: Identity) -> None:
        while not caplog.records:
            await asyncio.sleep(0)

    hybrid.on("worker_start", open_pool)
    in_loop(lambda runtime: LifeHooks(runtime, WORKER, 5.0).start())
    (record,) = caplog.records
    assert record.getMessage().startswith("still waiting for the hook worker_start: ")
    assert record.getMessage().endswith("open_pool")


def test_a_stop_follows_the_drain_hooks_and_calls_all_in_spite_of_errors(caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    async def drain(worker: Identity) -> None:
        await asyncio.sleep(0.01)
        called.append("drained")

    def fail(worker: Identity) -> None:
        called.append("failed")
        raise OSError("gone")

    hybrid.on("worker_drain", drain)
    hybrid.on("worker_stop", fail)
    hybrid.on("worker_stop", lambda worker: called.append("stopped"))

    async def main(runtime: Runtime) -> None:
        hooks = LifeHooks(runtime, WORKER, 5.0)
        hooks.drains(runtime.loop.time() + 10)
        await hooks.drained()
        await hooks.stop(runtime.loop.time() + 10)

    in_loop(main)
    assert called == ["drained", "failed", "stopped"]
    assert "the hook worker_stop failed: " in caplog.text


def test_a_task_factory_of_the_application_that_fails_is_not_asked() -> None:
    called: list[object] = []

    async def note(worker: Identity) -> None:
        called.append(worker)

    def refuse(loop: object, coroutine: Coroutine[Any, Any, Any], **_: object) -> Any:
        coroutine.close()
        raise RuntimeError("no tasks here")

    for name in ("worker_drain", "worker_stop"):
        hybrid.on(name, note)

    async def main(runtime: Runtime) -> None:
        runtime.loop.set_task_factory(refuse)
        hooks = LifeHooks(runtime, WORKER, 5.0)
        hooks.drains(runtime.loop.time() + 10)
        await hooks.drained()
        await hooks.stop(runtime.loop.time() + 10)
        runtime.loop.set_task_factory(None)

    in_loop(main)
    assert called == [WORKER, WORKER]


def test_after_the_grace_period_no_hook_is_called(caplog: pytest.LogCaptureFixture) -> None:
    called: list[object] = []
    hybrid.on("worker_stop", called.append)

    async def main(runtime: Runtime) -> None:
        await LifeHooks(runtime, WORKER, 5.0).stop(runtime.loop.time() - 1)

    with caplog.at_level(logging.ERROR, "hybrid"):
        in_loop(main)
    assert called == []
    assert "the hook worker_stop was not called, as the grace period is over: list.append" in caplog.text


# --- ready checks


def ready_check(*functions: Callable[..., Any]) -> str:
    """Return why a worker with these checks is not ready."""
    for function in functions:
        hybrid.on("ready_check", function)

    async def main(runtime: Runtime) -> str:
        checks = readiness.ReadyChecks(Calls(runtime, WORKER), 5.0, lambda reason: None)
        return await checks.why_not_ready()

    found: str = in_loop(main)
    return found


def raising(worker: Identity) -> None:
    raise ConnectionError("refused\nby the database")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda worker: True, ""),
        (lambda worker: None, ""),
        (lambda worker: False, "it returned False"),
        (lambda worker: "yes", "it returned an object of type str: return True, False or None"),
        (lambda worker: 1, "it returned an object of type int: return True, False or None"),
        (raising, "ConnectionError: refused by the database"),
    ],
)
def test_a_check_says_whether_the_worker_is_ready(function: Callable[..., Any], says: str) -> None:
    reason = ready_check(function)
    assert (reason == "") if not says else reason.endswith(f": {says}")


def test_one_check_of_several_that_fails_is_enough() -> None:
    assert ready_check(lambda worker: True, raising, lambda worker: True).startswith(f"{__name__}.raising: ")


def test_a_reason_is_short() -> None:
    def fail(worker: Identity) -> None:
        raise OSError("x" * 10_000)

    assert len(ready_check(fail)) == 200


def test_a_check_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "DEADLINE", 0.01)

    async def hang(worker: Identity) -> None:
        await asyncio.sleep(3600)

    assert ready_check(hang).endswith("TimeoutError: it did not end before its deadline")


def test_changes_are_told_once() -> None:
    results = iter([True, True, False, False, None, False])
    told: list[str] = []

    async def main(runtime: Runtime) -> None:
        over = asyncio.Event()

        def check(worker: Identity) -> bool | None:
            result = next(results, "over")
            if result == "over":
                over.set()
                return False
            return result  # type: ignore[return-value]

        hybrid.on("ready_check", check)
        hooks = LifeHooks(runtime, WORKER, 0.0)
        hooks.serves(told.append)
        await asyncio.wait_for(over.wait(), 10)
        hooks.drains(runtime.loop.time() + 1)

    in_loop(main)
    assert [reason.partition(": ")[2] for reason in told] == ["it returned False", "", "it returned False"]
