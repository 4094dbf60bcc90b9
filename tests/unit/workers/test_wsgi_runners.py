"""`GreenletRunner`: an early end affects only its request, even if another one runs in the greenlet by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit
from support.greens import Green, on_greens

from hybrid.workers.apps.wsgi.runners import GreenletRunner


class Request:
    """The part of an exchange that a runner needs: waits until it is woken, and records how that ended."""

    ending = False
    pool_worker: Any = None

    def __init__(self, green: Green, runner: Any, tell: Callable[[str], object]) -> None:
        self._green = green
        self._runner = runner
        self._tell = tell

    def run(self) -> None:
        self._parking = self._green.runtime.parking()
        try:
            self._parking.wait()
        except GreenletExit:
            self._tell("killed")
        else:
            self._tell("ended")
        self._runner.ended(self)

    def parked(self, pool_worker: Any) -> None:
        self._runner.parked(self, pool_worker)

    def wakes(self) -> None:
        self._parking.wake()


@on_greens
def test_a_kill_does_not_hit_the_greenlets_next_request(green: Green) -> None:
    told: list[str] = []
    runner: Any = GreenletRunner(green.runtime)
    first, second = (Request(green, runner, lambda how, name=name: told.append(f"{name} {how}")) for name in "ab")  # type: ignore[misc]
    soon = green.runtime.loop.call_soon
    soon(runner.start, first)
    green.turns()

    def stop() -> None:
        runner.stop(first)
        for function in (first.wakes, lambda: runner.start(second)):
            soon(function)

    soon(stop)
    green.turns()
    assert second.pool_worker is first.pool_worker
    soon(second.wakes)
    green.turns()
    assert told == ["a killed", "b ended"]
    assert not runner.running


@on_greens
def test_a_request_that_ended_before_its_kill_is_not_killed_nor_is_the_next(green: Green) -> None:
    told: list[str] = []
    runner: Any = GreenletRunner(green.runtime)
    first, second = (Request(green, runner, lambda how, name=name: told.append(f"{name} {how}")) for name in "ab")  # type: ignore[misc]
    soon = green.runtime.loop.call_soon

    def all_in_one_turn() -> None:
        runner.stop(first)
        first.wakes()
        runner.start(second)

    soon(runner.start, first)
    green.turns()
    soon(all_in_one_turn)
    green.turns()
    assert second.pool_worker is first.pool_worker
    soon(second.wakes)
    green.turns()
    assert told == ["a ended", "b ended"]
    assert not runner.running
