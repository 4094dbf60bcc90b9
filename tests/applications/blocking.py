"""A sync handler that does what the first line of a connection says, e.g. `echo`; see `COMMANDS`.

A command gets the socket and the words after its name. Its counterpart for coroutines is `coroutines.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import greenlet

import hybrid

Command = Callable[..., object]
_heard: list[bytes] = []  # what `shut` received after it had shut its own half down


def handle(sock: socket.socket, address: object) -> None:
    name, *words = _line(sock).split()
    COMMANDS[name](sock, *words)


def _line(sock: socket.socket) -> str:
    """Read a line byte by byte: what follows belongs to the command."""
    line = b""
    while not line.endswith(b"\n") and (part := sock.recv(1)):
        line += part
    return line.decode().strip() or "nothing"


def _pid(sock: socket.socket) -> None:
    sock.sendall(b"%d" % os.getpid())


def _echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def _count(sock: socket.socket) -> None:
    """Answer only when the client has shut its half down."""
    total = 0
    while data := sock.recv(65536):
        total += len(data)
    sock.sendall(b"%d" % total)


def _shut(sock: socket.socket) -> None:
    """Shut our half down first, and go on reading."""
    sock.sendall(b"bye")
    sock.shutdown(socket.SHUT_WR)
    _heard.append(sock.recv(100))


def _heard_by_shut(sock: socket.socket) -> None:
    sock.sendall(b"".join(_heard))


def _flood(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x" * 65536)


def _ask(sock: socket.socket) -> None:
    """Say that we are here, and answer what comes."""
    sock.sendall(b"?")
    sock.sendall(sock.recv(100)[::-1])


def _wait(sock: socket.socket) -> None:
    """Say that we are here, and wait without end; `finally` says so in a file, for the connection may be gone."""
    sock.sendall(b"?")
    try:
        sock.recv(100)
    except greenlet.GreenletExit:
        _note("ended by GreenletExit")
        raise
    finally:
        _note("finally")


def _note(text: str) -> None:
    with open(os.environ["NOTES"], "a") as file:  # noqa: PTH123
        file.write(f"{text}\n")


def _spin(sock: socket.socket) -> None:
    sock.sendall(b"?")
    while True:
        pass


def _fail(sock: socket.socket) -> None:
    raise LookupError("as asked")


def _exit(sock: socket.socket) -> None:
    raise SystemExit(3)


def _greenlet_exit(sock: socket.socket) -> None:
    raise greenlet.GreenletExit


def _timeout(sock: socket.socket) -> None:
    sock.settimeout(0.05)
    try:
        sock.recv(1)
    except TimeoutError:
        sock.sendall(b"timed out")


def _spawn(sock: socket.socket) -> None:
    """Spawn, sleep and join: the shorter sleep ends first, and a greenlet's error comes out of `get`."""
    order: list[int] = []

    def nap(number: int) -> int:
        hybrid.sleep(0.02 * number)
        order.append(number)
        return number

    def stumble() -> None:
        raise LookupError

    started = [hybrid.spawn(nap, number) for number in (3, 1, 2)]
    hybrid.joinall(started)
    try:
        hybrid.spawn(stumble).get()
    except LookupError:
        sock.sendall(f"{order} {[item.get() for item in started]}".encode())


def _await(sock: socket.socket) -> None:
    import asyncio

    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0.01)
        return a + b

    sock.sendall(b"%d" % hybrid.await_(add(40, 2)))


def _connect(sock: socket.socket) -> None:
    """Ask ourselves, in another connection of this very worker."""
    host, port = sock.getsockname()[:2]
    with hybrid.connect((host, port), timeout=5) as other:
        other.sendall(b"ask\n")
        other.recv(1)
        other.sendall(b"olleh")
        sock.sendall(other.recv(100))


def _kill(sock: socket.socket) -> None:
    """End a greenlet that sleeps; its `finally` runs."""
    ended: list[str] = []

    def sleep() -> None:
        try:
            hybrid.sleep(60)
        finally:
            ended.append("finally")

    sleeper = hybrid.spawn(sleep)
    hybrid.sleep(0)
    sleeper.kill()
    sock.sendall(f"{ended} {bool(sleeper.ready())}".encode())


def _many(sock: socket.socket, count: str) -> None:
    """Have that many greenlets alive at once: each waits for the last one."""
    gate: list[bool] = []
    awake = 0

    def stand() -> None:
        nonlocal awake
        awake += 1
        while not gate:
            hybrid.sleep(0.2)

    started = [hybrid.spawn(stand) for _ in range(int(count))]
    while awake < int(count):
        hybrid.sleep(0.01)
    gate.append(True)
    hybrid.joinall(started)
    sock.sendall(b"%d" % awake)


COMMANDS: dict[str, Command] = {
    "nothing": lambda sock: None,
    "pid": _pid,
    "echo": _echo,
    "count": _count,
    "shut": _shut,
    "heard": _heard_by_shut,
    "flood": _flood,
    "ask": _ask,
    "wait": _wait,
    "spin": _spin,
    "fail": _fail,
    "exit": _exit,
    "greenlet_exit": _greenlet_exit,
    "timeout": _timeout,
    "spawn": _spawn,
    "await": _await,
    "connect": _connect,
    "kill": _kill,
    "many": _many,
}
