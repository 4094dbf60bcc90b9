"""How much is read next of a connection."""

from __future__ import annotations

import pytest

from hybrid.workers.hub.pieces import LARGEST, PIECE, kept, next_piece


class Upgraded:
    """A protocol that speaks WebSocket."""

    upgraded = True

    def __init__(self, owed: int = 0) -> None:
        self.owed = lambda: owed


@pytest.mark.parametrize(
    ("piece", "seconds", "following"),
    [
        (PIECE, 0.0, 4 * PIECE),
        (PIECE, 0.0001, 4 * PIECE),
        (LARGEST, 0.0001, LARGEST),
        (PIECE, 0.001, PIECE),
        (PIECE, 0.016, PIECE // 16),
        (PIECE, 1.0, 256),
        (256, 1.0, 256),
        (256, 0.000_01, 1024),
    ],
)
def test_a_piece_is_what_a_protocol_takes_within_the_time(piece: int, seconds: float, following: int) -> None:
    assert next_piece(piece, seconds, 0.001, object()) == following


@pytest.mark.parametrize(
    ("owed", "following"), [(0, PIECE), (PIECE, PIECE), (3 * PIECE, 3 * PIECE), (100 * PIECE, 4 * PIECE)]
)
def test_all_of_a_websocket_frame_may_come_in_one_piece(owed: int, following: int) -> None:
    assert next_piece(PIECE, 0.0, 0.001, Upgraded(owed)) == following


@pytest.mark.parametrize(
    ("piece", "count", "following"),
    [(PIECE, 1, PIECE), (PIECE, PIECE - 1, PIECE), (LARGEST, LARGEST // 4, LARGEST), (LARGEST, LARGEST // 5, PIECE)],
)
def test_a_large_piece_is_kept_while_most_of_it_is_of_use(piece: int, count: int, following: int) -> None:
    assert kept(piece, count) == following


def test_a_piece_that_was_made_small_grows_again_after_a_short_read() -> None:
    assert kept(256, 255) == PIECE


def test_a_websocket_gets_no_large_pieces() -> None:
    assert next_piece(PIECE, 0.0, 0.001, Upgraded()) == PIECE
    assert next_piece(LARGEST, 0.0, 0.001, Upgraded()) == PIECE
    assert next_piece(1024, 0.0, 0.001, Upgraded()) == 4096
