"""The table of malformed requests over real sockets, on every loop and interface: none reaches the application."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.clients import connected, read_all
from support.echo import Answer, read_answers
from support.loops import LOOPS
from support.malformed import MALFORMED, MAX_BODY, ODD, get
from support.process import HybridProcess
from support.service import serving

ARGUMENTS = ("--workers", "1", "--max-body-size", str(MAX_BODY))


def _answers(
    service: HybridProcess, request: bytes, *, ends: bool, heads: frozenset[int] = frozenset()
) -> list[Answer]:
    """Send a request and read until the server ends the stream."""
    with connected(service.address) as sock:
        sock.sendall(request)
        if ends:
            sock.shutdown(socket.SHUT_WR)
        return read_answers(read_all(sock), heads)


def _calls(service: HybridProcess) -> int:
    """The number of requests that the application has received."""
    request = get(b"Connection: close", line=b"GET /calls HTTP/1.1")
    return int(_answers(service, request, ends=False)[0].body)


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_malformed_requests_are_refused(loop: str, interface: str, tmp_path: Path) -> None:
    """Each gets its status and a close by the server, and the application has seen none of them."""
    wrong = []
    with serving(f"counting:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as service:
        for row in MALFORMED:
            answers = _answers(service, row.request, ends=row.ends)
            statuses = [answer.status for answer in answers]
            if statuses != [200] * row.before + [row.status] or answers[-1].field(b"connection") != b"close":
                wrong.append((row.name, row.status, answers))
        assert not wrong
        assert _calls(service) == sum(row.before for row in MALFORMED)


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_odd_requests_are_served(loop: str, interface: str, tmp_path: Path) -> None:
    """Each reaches the application unchanged, also if its client closes its sending side after it."""
    wrong = []
    with serving(f"counting:{interface}", "--loop", loop, *ARGUMENTS, cwd=tmp_path) as service:
        for row in ODD:
            heads = frozenset(number for number, seen in enumerate(row.seen) if seen.startswith(b"HEAD"))
            answers = _answers(service, row.request, ends=not row.closes, heads=heads)
            expected = tuple(b"" if number in heads else seen for number, seen in enumerate(row.seen))
            if tuple(answer.body for answer in answers) != expected:
                wrong.append((row.name, expected, answers))
        assert not wrong
        assert _calls(service) == sum(len(row.seen) for row in ODD)
