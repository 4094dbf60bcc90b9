"""What tests of the control line in the shell begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fake_kernel import FakeKernel
from support.operators import Operator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the control line."""
    return tmp_path / "control"


@pytest.fixture
def connected(kernel: FakeKernel, path: Path) -> Iterator[Callable[[], Operator]]:
    """Return a function that makes a further client."""
    made: list[Operator] = []

    def make() -> Operator:
        made.append(Operator(kernel, path))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def operator(connected: Callable[[], Operator]) -> Operator:
    """A client."""
    return connected()
