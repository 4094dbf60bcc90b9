"""A connection that ends while its client is still sending: the client gets everything sent to it, and the end.

One server per loop and kind of handler (tests/applications/closing.py) serves all tests except those of a stop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.clients import TIMEOUT, read_all, read_exactly
from support.loops import HUB_LOOPS, LOOPS
from support.process import HybridProcess
from support.service import eventually, open_files, serving

SIZE = 1_000_000
# after the first line: asyncio's streams leave more than 128 KiB in the kernel, which has less room on UNIX sockets
MORE = {"tcp": b"x" * 300_000, "unix": b"x" * 100_000}
INTERFACES = {"blocking": "stream", "coroutines": "stream", "protocol": "protocol"}
KINDS = [("blocking", "close"), ("blocking", "return"), ("coroutines", "close"), ("protocol", "close")]
FAMILIES = ("tcp", "unix")
Place = tuple[HybridProcess, str]  # a server, and how its handler ends a connection
_at_rest: dict[HybridProcess, int] = {}  # number of sockets of its worker before the first client


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def servers(loop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], HybridProcess]]:
    """Return the server of a kind of handler; started on first use."""
    running: dict[str, HybridProcess] = {}
    with ExitStack() as stack:

        def server(kind: str) -> HybridProcess:
            if kind not in running:
                process = stack.enter_context(started(loop, kind, tmp_path_factory.mktemp("closing")))
                running[kind] = process
                _at_rest[process] = sockets(process)
            return running[kind]

        yield server
        assert not [kind for kind, process in running.items() if "ERROR" in process.stderr]


@pytest.fixture(scope="module")
def server(servers: Callable[[str], HybridProcess], request: pytest.FixtureRequest) -> HybridProcess:
    """Return the server of the kind of handler named by the test's parameter."""
    return servers(request.param)


def of_kinds(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", kinds, indirect=True)


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def place(request: pytest.FixtureRequest, loop: str, servers: Callable[[str], HybridProcess]) -> Place:
    kind, how = request.param
    skip_where_libuv_closes(loop, kind)
    return servers(kind), how


def skip_where_libuv_closes(loop: str, kind: str) -> None:
    if (loop, kind) == ("uvloop", "protocol"):
        pytest.skip("between such a protocol and its descriptor there is nothing of ours")


def started(loop: str, kind: str, cwd: Path) -> AbstractContextManager[HybridProcess]:
    bind = ("--bind", "127.0.0.1:0", "--bind", f"unix:{cwd}/s")
    interface = ("--interface", INTERFACES[kind])
    return serving(f"closing:{kind}", *interface, "--workers", "1", "--loop", loop, *bind, cwd=cwd)


def sockets(server: HybridProcess) -> int:
    """The number of sockets of a server's worker."""
    [worker] = server.worker_pids()
    return sum(name.startswith("socket:") for name in open_files(worker))


@contextmanager
def client(server: HybridProcess, family: str) -> Iterator[socket.socket]:
    """Give a connected client with a small receive buffer."""
    sock = socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX)
    with sock:
        sock.settimeout(TIMEOUT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        unix = next(address for address in server.addresses if "unix:" in address).removeprefix("unix:")
        sock.connect(server.address if family == "tcp" else unix)
        yield sock


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [2, SIZE])
def test_unread_input_does_not_truncate_the_response(place: Place, family: str, size: int) -> None:
    server, how = place
    with client(server, family) as sock:
        with suppress(BrokenPipeError):  # on a UNIX socket, from a fast handler
            sock.sendall(b"%d %s\n" % (size, how.encode()) + MORE[family])
        assert len(read_all(sock)) == size


@pytest.mark.parametrize("family", FAMILIES)
def test_input_after_the_close_does_not_truncate_it_either(place: Place, family: str) -> None:
    server, how = place
    with client(server, family) as sock:
        sock.sendall(b"%d %s\n" % (SIZE, how.encode()))
        read_exactly(sock, 1)
        sock.sendall(b"QUIT\n")
        assert len(read_all(sock)) == SIZE - 1


def test_an_ended_connection_is_gone_soon(place: Place) -> None:
    server, how = place
    with client(server, "tcp") as sock:
        sock.sendall(b"2 %s\n" % how.encode() + MORE["tcp"])
        assert len(read_all(sock)) == 2
    eventually(lambda: sockets(server) <= _at_rest[server], "the descriptor is closed")


def test_a_client_that_never_ends_its_stream_is_not_waited_for(place: Place) -> None:
    server, how = place
    with client(server, "tcp") as sock:
        sock.sendall(b"2 %s\n" % how.encode() + MORE["tcp"])
        assert len(read_all(sock)) == 2
        eventually(lambda: sockets(server) <= _at_rest[server], "the descriptor is closed")


@pytest.mark.parametrize("kind", INTERFACES)
def test_a_stop_waits_for_a_client_that_reads_its_response_slowly(loop: str, kind: str, tmp_path: Path) -> None:
    skip_where_libuv_closes(loop, kind)
    with started(loop, kind, tmp_path) as server, client(server, "tcp") as sock, ThreadPoolExecutor(1) as pool:
        sock.sendall(b"%d close\n" % SIZE + MORE["tcp"])
        read_exactly(sock, 1)
        stopped = pool.submit(server.stop)
        server.wait_for_log("draining")
        assert len(read_all(sock)) == SIZE - 1
        sock.close()
        assert stopped.result() == 0


@of_kinds(*INTERFACES)
def test_a_reset_requested_by_the_application_is_sent(server: HybridProcess) -> None:
    with client(server, "tcp") as sock:
        sock.sendall(b"2 reset\n" + MORE["tcp"])
        with pytest.raises(ConnectionResetError):
            read_all(sock)


@of_kinds("coroutines", "protocol")
def test_an_abort_does_not_linger(loop: str, server: HybridProcess) -> None:
    if loop == "uvloop":
        pytest.skip("its transports do not tell an abort from a close")
    with client(server, "tcp") as sock:
        sock.sendall(b"2 abort\n" + MORE["tcp"])
        with pytest.raises(ConnectionResetError):
            read_all(sock)


@of_kinds("blocking")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_input_of_a_duplicated_socket_is_not_read(server: HybridProcess, family: str) -> None:
    with client(server, family) as sock:
        sock.sendall(b"2 dup\nrest")
        assert read_all(sock) == b"xxrest"


@of_kinds("coroutines")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_may_send_everything_before_it_reads(loop: str, server: HybridProcess, family: str) -> None:
    if loop not in HUB_LOOPS:
        pytest.skip("asyncio's transports read no more once they are closed")
    size = 20_000_000  # more than the kernel buffers in both directions
    with client(server, family) as sock:
        sock.sendall(b"%d close\n" % size)
        sock.sendall(b"x" * size)
        assert len(read_all(sock)) == size
