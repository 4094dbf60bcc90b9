"""Applications that fail in many ways, each with a `Sentinel` in its frame, and tell how many sentinels are alive.

The collector is off: what only a collection frees stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable
from typing import Any

import hybrid

gc.disable()


class Sentinel:
    """Stands for whatever a frame holds."""

    alive = 0

    def __init__(self) -> None:
        Sentinel.alive += 1

    def __del__(self) -> None:
        Sentinel.alive -= 1


def fail() -> None:
    held = Sentinel()  # noqa: F841
    raise ValueError("at once")


def fail_late() -> None:
    held = Sentinel()  # noqa: F841
    hybrid.sleep(0.001)
    raise ValueError("late")


async def fail_async() -> None:
    held = Sentinel()  # noqa: F841
    await asyncio.sleep(0)
    raise ValueError("async")


async def green() -> None:
    await hybrid.green(fail_late)


async def done() -> list[asyncio.Task[None]]:
    task = asyncio.ensure_future(fail_async())
    await asyncio.wait([task])
    return [task]


def wait_for(method: str, argument: Any, seconds: float | None = None) -> None:
    """Wait in a method of a cooperative socket, whose peer is silent."""
    held = Sentinel()  # noqa: F841
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = hybrid.connect(listener.getsockname(), seconds)
        getattr(sock, method)(argument)


def kept(function: Callable[..., object], *args: Any) -> None:
    """A greenlet that keeps the error of a frame that waits, and is thrown away."""
    started = hybrid.spawn(function, *args)
    hybrid.sleep(0.002)
    started.kill(ValueError("killed"))
    started.join()


CAUGHT: dict[str, Callable[[], object]] = {
    "await": lambda: hybrid.await_(fail_async()),
    "await_task": lambda: hybrid.await_(hybrid.await_(done()).pop()),
    "await_nothing": lambda: hybrid.await_(None),  # type: ignore[arg-type]
    "green": lambda: hybrid.await_(green()),
    "get": lambda: hybrid.spawn(fail).get(),
    "joinall": lambda: hybrid.joinall([hybrid.spawn(fail), hybrid.spawn(fail)], raise_error=True),
    "connect": lambda: hybrid.connect(("127.0.0.1", 1)),
    "connect_name": lambda: hybrid.connect(("localhost", 1)),
    "killed_sleep": lambda: kept(hybrid.sleep, 10),
    "timed_out": lambda: hybrid.spawn(wait_for, "recv", 1, 0.001).join(),
    "killed_recv": lambda: kept(wait_for, "recv", 1),
    "killed_recv_into": lambda: kept(wait_for, "recv_into", bytearray(1)),
    "killed_recvfrom": lambda: kept(wait_for, "recvfrom", 1),
    "killed_sendall": lambda: kept(wait_for, "sendall", bytes(30_000_000)),
    "killed_await": lambda: kept(hybrid.await_, asyncio.sleep(10)),
}


def attempt(case: str) -> None:
    held = Sentinel()  # noqa: F841
    with contextlib.suppress(ValueError, TypeError, OSError):
        CAUGHT[case]()


def catching(sock: Any, address: Any) -> None:
    """Catch the error of the case that the client names; answer with the number of sentinels that it leaves."""
    case = sock.recv(100).decode().strip()
    before = Sentinel.alive
    attempt(case)
    for _ in range(100):
        hybrid.sleep(0.001)  # what the loop has to do for it is done
        if Sentinel.alive <= before:
            break
    sock.sendall(str(Sentinel.alive - before).encode())


def failing(sock: Any, address: Any) -> None:
    """Fail as the client says, with a file of the socket open."""
    held = Sentinel()
    file = sock.makefile("rwb")
    case = file.readline().decode().strip()
    if case == "count":
        del held
        file.write(b"%d" % Sentinel.alive)
        file.flush()
    elif case == "held":
        started = hybrid.spawn(fail)
        started.get()
    elif case == "timeout":
        sock.settimeout(0.001)
        file.readline()
    else:
        CAUGHT[case]()


async def failing_async(reader: Any, writer: Any) -> None:
    """Fail as the client says."""
    held = Sentinel()
    case = (await reader.readline()).decode().strip()
    if case == "count":
        del held
        writer.write(b"%d" % Sentinel.alive)
        writer.close()
    elif case == "green":
        await hybrid.green(fail)
    elif case == "held":
        task = asyncio.ensure_future(green())
        await task
    elif case == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_async())
    elif case == "cancelled":
        task = asyncio.current_task()  # type: ignore[assignment]
        task.cancel()
        await asyncio.sleep(10)
    elif case == "lost":
        await reader.readexactly(1000)


def failing_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Fail as the path says."""
    held = Sentinel()
    case = environ["PATH_INFO"][1:]
    if case == "count":
        del held
        start_response("200 OK", [])
        return [b"%d" % Sentinel.alive]
    if case == "iterating":
        start_response("200 OK", [])
        return _fail_between(held)
    if case == "writing":
        start_response("200 OK", [])(b"x")
    elif case == "short":
        start_response("200 OK", [("Content-Length", "10")])
        return [b"x"]
    elif case == "reading":
        environ["wsgi.input"].read()
    elif case == "held":
        started = hybrid.spawn(fail)
        started.get()
    raise ValueError(case)


def _fail_between(held: Sentinel) -> Any:
    yield b"x"
    raise ValueError("between")


async def failing_asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Fail as the path says."""
    if scope["type"] == "lifespan":
        return
    held = Sentinel()
    case = scope["path"][1:]
    if case == "count":
        del held
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d" % Sentinel.alive})
        return
    if case == "late":
        await asyncio.sleep(0)
    elif case == "cut":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0)
    elif case == "nothing":
        return
    elif case == "held":
        task = asyncio.ensure_future(green())
        await task
    elif case == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_async())
    elif case == "unknown":
        await send({"type": "nonsense"})
    raise ValueError(case)


def failing_datagram(data: bytes, address: Any, transport: Any) -> None:
    """Fail, or tell."""
    if data == b"count":
        transport.sendto(b"%d" % Sentinel.alive, address)
        return
    held = Sentinel()  # noqa: F841
    raise ValueError("a datagram")
