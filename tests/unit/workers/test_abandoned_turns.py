"""A forked child does not finish the turn of the loop in which it was forked."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from hybrid.workers.common import forks


async def _nothing() -> None: ...


def test_remaining_callbacks_of_the_turn_are_kept_but_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is dropped while it is pending says so in the log, from each child that an application forks."""
    left, done = [], []
    monkeypatch.setattr(forks, "leave", lambda: left.append(True))
    monkeypatch.setattr(forks, "_abandoned", [])
    loop = asyncio.new_event_loop()
    task = weakref.ref(asyncio.Task(_nothing(), loop=loop))
    loop.call_soon(done.append, True)
    forks.abandon_turn(loop)
    assert task() is not None
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert left == [True, True]
    assert not done
    step = forks._abandoned[0]
    assert isinstance(step, asyncio.Handle)
    step._run()  # so that the task is not pending for good
    loop.close()
