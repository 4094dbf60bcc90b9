"""Every kind of address a stream service can be reached at, on every loop."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import ask
from support.loops import LOOPS
from support.service import UNSTEERED, eventually, serving

FIRST_PASSED = 3  # sd_listen_fds(3): where the descriptors of systemd begin


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short one: the path of a UNIX socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hybrid") as name:
        yield Path(name)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def workers_at(address: tuple[str, int] | str, wanted: int) -> set[int]:
    """Connect until `wanted` different workers have answered; just after the start, one accepts for the other."""
    pids: set[int] = set()

    def are_enough() -> bool:
        pids.add(int(ask(address, b"pid\n")))
        return len(pids) == wanted

    eventually(are_enough, f"{wanted} workers answer at {address!r}")
    return pids


def test_one_service_serves_ipv4_ipv6_and_unix_addresses_at_once(loop: str, directory: Path) -> None:
    binds = ("--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--bind", f"unix:{directory}/a.sock")
    binds = (*binds, "--bind", f"unix:@hybrid-{os.getpid()}-{loop}")
    arguments = (*binds, "--workers", "2", "--loop", loop, *UNSTEERED)
    with serving("blocking:handle", *arguments, cwd=directory) as process:
        ipv6 = process.addresses[1].rpartition(":")[2]
        for address in (process.address, ("::1", int(ipv6))):
            assert workers_at(address, 2) == set(process.worker_pids())
        for path in (f"{directory}/a.sock", f"\0hybrid-{os.getpid()}-{loop}"):
            assert workers_at(path, 1) <= set(process.worker_pids())
        assert ask(f"{directory}/a.sock", b"count\n" + b"x" * 1_000_000) == b"1000000"
    assert not (directory / "a.sock").exists()


def test_async_handlers_serve_unix_addresses_too(loop: str, directory: Path) -> None:
    arguments = ("--bind", f"unix:{directory}/a.sock", "--workers", "2", "--loop", loop)
    with serving("coroutines:handle", *arguments, cwd=directory):
        assert ask(f"{directory}/a.sock", b"count\n" + b"x" * 100_000) == b"100000"


def test_a_descriptor_that_is_open_already_is_served_by_all_workers(
    loop: str, listener: socket.socket, tmp_path: Path
) -> None:
    fd = listener.fileno()
    arguments = ("--bind", f"fd://{fd}", "--workers", "2", "--loop", loop)
    with serving("blocking:handle", *arguments, cwd=tmp_path, pass_fds=(fd,), inherited=True) as process:
        assert workers_at(listener.getsockname(), 1) <= set(process.worker_pids())


def test_descriptors_of_systemd_are_served_where_no_address_is_given(
    loop: str, listener: socket.socket, tmp_path: Path
) -> None:
    """The shell puts the socket where systemd would, and `exec` keeps the pid, which LISTEN_PID has to name."""
    fd = listener.fileno()
    move = f"exec {FIRST_PASSED}<&{fd} {fd}<&-;" if fd != FIRST_PASSED else ""
    command = f'{move} LISTEN_PID=$$ exec {sys.executable} -P -m hybrid "$@"'
    with serving(
        "coroutines:handle",
        *("--workers", "2", "--loop", loop),
        cwd=tmp_path,
        inherited=True,
        executable=["bash", "-c", command, "sh"],
        pass_fds=(fd,),
        env={"LISTEN_FDS": "1"},
    ) as process:
        assert workers_at(listener.getsockname(), 1) <= set(process.worker_pids())
