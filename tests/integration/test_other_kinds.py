"""Protocol factories and datagram handlers on every loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import TIMEOUT, ask, connected, read_all
from support.crowd import converse
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving

DATAGRAMS = 200


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_protocol_factory_makes_one_for_each_connection(loop: str, tmp_path: Path) -> None:
    with serving("other_kinds:Upper", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        with connected(process.address) as first, connected(process.address) as second:
            first.sendall(b"one")
            second.sendall(b"two")
            assert (first.recv(10), second.recv(10)) == (b"ONE", b"TWO")
        assert ask(process.address, b"x" * 1_000_000) == b"X" * 1_000_000


def test_a_protocol_with_slots_is_told_of_its_end_as_any_other(loop: str, tmp_path: Path) -> None:
    """Its end is what a stop waits for."""
    with serving("other_kinds:Slotted", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        assert ask(process.address, b"x" * 1000) == b"X" * 1000


def test_a_function_that_makes_protocols_is_named_by_its_interface(loop: str, tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--loop", loop, "--interface", "protocol")
    with serving("other_kinds:make_echo", *arguments, cwd=tmp_path) as process:
        assert converse(process.address, 100, 10) == 1000


def test_a_factory_that_raises_costs_its_connection_only(loop: str, tmp_path: Path) -> None:
    with serving("other_kinds:Broken", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        for expected in (b"", b"made") * 2:
            with connected(process.address) as sock:
                assert read_all(sock) == expected
        process.wait_for_log("handler failed: LookupError: not this one, .*other_kinds.py", count=2)


# --- datagrams


@pytest.fixture(scope="module", params=("datagram", "datagram_async"))
def receiver(
    request: pytest.FixtureRequest, loop: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HybridProcess]:
    arguments = ("--bind", "udp://127.0.0.1:0", "--bind", "udp://[::1]:0", "--workers", "2", "--loop", loop)
    with serving(f"other_kinds:{request.param}", *arguments, cwd=tmp_path_factory.mktemp("udp")) as process:
        yield process


@pytest.mark.parametrize(("which", "family"), [(0, socket.AF_INET), (1, socket.AF_INET6)], ids=["ipv4", "ipv6"])
def test_many_datagrams_are_answered_at_once(receiver: HybridProcess, which: int, family: int) -> None:
    """Each is answered after 10 ms; one after the other they would take longer than the client waits."""
    host, _, port = receiver.addresses[which].removeprefix("udp://").rpartition(":")
    wanted = {b"DATAGRAM %d" % number for number in range(DATAGRAMS)}
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DATAGRAMS * 0.01 * 0.9)
        sock.connect((host.strip("[]"), int(port)))
        for number in range(DATAGRAMS):
            sock.send(b"datagram %d" % number)
        assert {sock.recv(100) for _ in wanted} == wanted


def test_a_datagram_handler_that_raises_is_one_record(receiver: HybridProcess) -> None:
    seen = len(receiver.lines)
    host, _, port = receiver.addresses[0].removeprefix("udp://").rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((host, int(port)))
        sock.send(b"fail")
        receiver.wait_for_log(r"handler failed: LookupError: as asked, .*other_kinds\.py:\d+", since=seen)
        sock.send(b"and on")
        assert sock.recv(100) == b"AND ON"
    assert len([line for line in receiver.lines[seen:] if not line.startswith(" ")]) == 1


def test_a_whole_datagram_of_the_largest_size_passes(receiver: HybridProcess) -> None:
    host, _, port = receiver.addresses[0].removeprefix("udp://").rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((host, int(port)))
        sock.send(b"x" * 65_507)
        assert sock.recv(65_536) == b"X" * 65_507
