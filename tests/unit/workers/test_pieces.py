"""How much is read next of a connection."""

from __future__ import annotations

import pytest

from hybrid.workers.hub.pieces import LARGEST, PIECE, next_piece


class Upgraded:
    """A protocol that speaks WebSocket."""

    upgraded = True


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


def test_a_websocket_gets_no_large_pieces() -> None:
    assert next_piece(PIECE, 0.0, 0.001, Upgraded()) == PIECE
    assert next_piece(LARGEST, 0.0, 0.001, Upgraded()) == PIECE
    assert next_piece(1024, 0.0, 0.001, Upgraded()) == 4096
