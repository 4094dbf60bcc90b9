"""When a greenlet or task yields to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.hub import run_on

from hybrid.workers.common import fairness
from hybrid.workers.common.fairness import LOOK, Turn, give_way, turn_of
from hybrid.workers.hub.hub_runtime import HubRuntime


def test_one_operation_of_many_looks_at_the_clock() -> None:
    turn = Turn(lambda callback: None)
    assert [turn.is_due() for _ in range(2 * LOOK)] == 2 * ([False] * (LOOK - 1) + [True])


def test_a_turn_is_long_when_it_has_lasted() -> None:
    later: list[Callable[[], None]] = []
    turn = Turn(later.append)
    assert not turn.is_long()
    turn._began -= 2 * fairness.LONGEST
    assert turn.is_long()
    assert turn.is_long()  # for every caller, until the turn is over
    [over] = later
    over()
    assert not turn.is_long()


def test_a_loop_has_one_turn() -> None:
    async def main(runtime: HubRuntime) -> bool:
        return turn_of(runtime.loop) is turn_of(runtime.loop) is runtime.turn

    assert run_on("epoll", main)


def test_a_task_gives_way_in_a_long_turn_only() -> None:
    async def main(runtime: HubRuntime) -> list[str]:
        order = []
        turn = runtime.turn
        asyncio.get_running_loop().call_soon(order.append, "others")
        await give_way(turn)
        order.append("short")
        turn._began -= 2 * fairness.LONGEST
        await give_way(turn)
        order.append("long")
        return order

    assert run_on("epoll", main) == ["short", "others", "long"]


def test_a_greenlet_gives_way_and_the_loop_itself_does_not() -> None:
    async def main(runtime: HubRuntime) -> list[str]:
        order: list[str] = []

        def work() -> None:
            runtime.turn.is_long()
            runtime.turn._began -= 2 * fairness.LONGEST
            runtime.loop.call_soon(order.append, "others")
            runtime.give_way()
            order.append("greenlet")

        await runtime.green(work)
        runtime.turn.is_long()
        runtime.turn._began -= 2 * fairness.LONGEST
        runtime.give_way()
        return order

    assert run_on("epoll", main) == ["others", "greenlet"]
