"""How many bytes the next read of a connection asks for."""

from __future__ import annotations

import pytest
from support.rows import for_each

from hybrid.workers.streams.read_size import DEFAULT, LARGEST, after_full_read, after_short_read


class Upgraded:
    """A protocol that speaks WebSocket."""

    upgraded = True

    def __init__(self, owed: int = 0) -> None:
        self.owed = lambda: owed


@for_each(
    ("size", "seconds", "following"),
    [
        (DEFAULT, 0.0, 4 * DEFAULT),
        (DEFAULT, 0.0001, 4 * DEFAULT),
        (LARGEST, 0.0001, LARGEST),
        (DEFAULT, 0.001, DEFAULT),
        (DEFAULT, 0.016, DEFAULT // 16),
        (DEFAULT, 1.0, 256),
        (256, 1.0, 256),
        (256, 0.000_01, 1024),
    ],
)
def test_a_read_is_as_large_as_the_protocol_takes_in_time(size: int, seconds: float, following: int) -> None:
    assert after_full_read(size, seconds, 0.001, object()) == following


@pytest.mark.parametrize(
    ("owed", "following"), [(0, DEFAULT), (DEFAULT, DEFAULT), (3 * DEFAULT, 3 * DEFAULT), (100 * DEFAULT, 4 * DEFAULT)]
)
def test_a_websocket_frame_may_be_read_at_once(owed: int, following: int) -> None:
    assert after_full_read(DEFAULT, 0.0, 0.001, Upgraded(owed)) == following


@pytest.mark.parametrize(
    ("size", "count", "following"),
    [
        (DEFAULT, 1, DEFAULT),
        (DEFAULT, DEFAULT - 1, DEFAULT),
        (LARGEST, LARGEST // 4, LARGEST),
        (LARGEST, LARGEST // 5, DEFAULT),
    ],
)
def test_a_large_read_size_is_kept_while_most_of_it_is_used(size: int, count: int, following: int) -> None:
    assert after_short_read(size, count) == following


def test_a_small_read_size_grows_again_after_a_short_read() -> None:
    assert after_short_read(256, 255) == DEFAULT


def test_a_websocket_gets_no_large_reads() -> None:
    assert after_full_read(DEFAULT, 0.0, 0.001, Upgraded()) == DEFAULT
    assert after_full_read(LARGEST, 0.0, 0.001, Upgraded()) == DEFAULT
    assert after_full_read(1024, 0.0, 0.001, Upgraded()) == 4096
