"""Connections go to the worker with the fewest: on every loop, over TCP and UNIX sockets; none is lost on its way."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import TIMEOUT, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import UNSTEERED, descriptors, eventually, is_stopped, serving

MANY = 24


class Clients:
    """Connections to a service that stay open."""

    def __init__(self, stack: contextlib.ExitStack, address: tuple[str, int] | str) -> None:
        self._stack = stack
        self._address = address

    def connects(self) -> socket.socket:
        """Open one more."""
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        sock = self._stack.enter_context(socket.socket(family))
        sock.settimeout(TIMEOUT)
        sock.connect(self._address)
        return sock

    def visits(self) -> int:
        """Open one and close it; return the pid of the worker that has answered it."""
        with self.connects() as sock:
            return pid_of(sock)

    def asks(self) -> int:
        """Open one more; return the pid of the worker that answers it."""
        return pid_of(self.connects())


def pid_of(sock: socket.socket) -> int:
    """Ask for the pid of the worker that serves a connection."""
    sock.sendall(b"pid\n")
    digits = b""
    while not digits.endswith(b"\n"):
        digits += read_exactly(sock, 1)
    return int(digits)


@contextlib.contextmanager
def clients_of(process: HybridProcess, path: Path | None = None) -> Iterator[Clients]:
    with contextlib.ExitStack() as stack:
        yield Clients(stack, process.address if path is None else str(path))


def scaled_to(process: HybridProcess, workers: int) -> list[int]:
    """Add workers until there are so many; return the pids of all."""
    for number in range(len(process.worker_pids()) + 1, workers + 1):
        process.signal(signal.SIGTTIN)
        process.wait_for_log(" ready on ", count=number)
    return process.worker_pids()


def assert_a_new_worker_gets_all(process: HybridProcess, clients: Clients) -> None:
    """The service has one worker."""
    (first,) = {clients.asks() for _ in range(MANY)}
    (second,) = set(scaled_to(process, 2)) - {first}
    # a moment later the supervisor has told both of each other
    eventually(lambda: {clients.visits() for _ in range(MANY)} == {second}, "the new worker gets all")


@pytest.mark.parametrize("target", ["staying:handle", "staying:answer"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_new_worker_gets_all_connections_until_it_has_as_many(target: str, loop: str, tmp_path: Path) -> None:
    with (
        serving(target, "--loop", loop, "--workers", "1", *UNSTEERED, cwd=tmp_path, growth=4) as process,
        clients_of(process) as clients,
    ):
        assert_a_new_worker_gets_all(process, clients)


def test_connections_of_a_unix_socket_go_to_the_worker_with_the_fewest_too(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    bind = ("--bind", f"unix:{path}")
    with (
        serving("staying:answer", *bind, "--workers", "1", *UNSTEERED, cwd=tmp_path, growth=4) as process,
        clients_of(process, path) as clients,
    ):
        assert_a_new_worker_gets_all(process, clients)


def test_off_opens_no_queues(tmp_path: Path) -> None:
    with serving("staying:answer", "--workers", "2", cwd=tmp_path) as process:
        usual = descriptors(process.pid)
    with serving("staying:answer", "--workers", "2", "--balance", "off", cwd=tmp_path) as process:
        assert descriptors(process.pid) == usual - 2


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_for_a_stopped_worker_is_answered_by_others(loop: str, tmp_path: Path) -> None:
    """It may have been passed connections before the supervisor has noticed; then it is even killed."""
    with (
        serving("staying:answer", "--loop", loop, "--workers", "1", cwd=tmp_path, growth=4) as process,
        clients_of(process) as clients,
    ):
        (first,) = {clients.asks() for _ in range(MANY)}
        (second,) = set(scaled_to(process, 2)) - {first}
        os.kill(second, signal.SIGSTOP)
        eventually(lambda: is_stopped(second), "it stands still")
        waiting = [clients.connects() for _ in range(MANY)]
        os.kill(second, signal.SIGKILL)
        assert second not in {pid_of(sock) for sock in waiting}


def asked(clients: list[http.client.HTTPConnection]) -> Counter[int]:
    """Ask once on each kept-alive connection, which a client opens anew after `Connection: close`; pid -> answers."""
    pids: Counter[int] = Counter()
    for client in clients:
        client.request("GET", "/")
        with client.getresponse() as response:
            assert response.status == 200
            pids[int(response.read())] += 1
    return pids


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("loop", LOOPS)
def test_kept_alive_clients_move_to_a_new_worker(interface: str, loop: str, tmp_path: Path) -> None:
    options = ("--interface", interface, "--loop", loop, "--workers", "1", "--keep-alive-timeout", "60", *UNSTEERED)
    with contextlib.ExitStack() as stack:
        crowds: dict[str, list[http.client.HTTPConnection]] = {}
        for rebalance in ("auto", "off"):
            arguments = (*options, "--rebalance", rebalance)
            process = stack.enter_context(serving(f"staying:{interface}", *arguments, cwd=tmp_path, growth=4))
            clients = [http.client.HTTPConnection(*process.address, timeout=TIMEOUT) for _ in range(6)]
            for client in clients:
                stack.callback(client.close)
            crowds[rebalance] = clients
            (first,) = asked(clients)
            scaled_to(process, 2)
        eventually(lambda: sorted(asked(crowds["auto"]).values()) in ([2, 4], [3, 3]), "half of them have moved")
        assert asked(crowds["off"]) == {first: 6}
