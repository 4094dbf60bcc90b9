"""An async handler that does what the first line of a connection says; the counterpart of `blocking.py`."""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

import greenlet

import hybrid

Command = Callable[..., Awaitable[object]]
_heard: list[bytes] = []  # what `shut` received after it had shut its own half down


async def handle(reader: StreamReader, writer: StreamWriter) -> None:
    name, *words = (await reader.readline()).decode().split() or ["nothing"]
    await COMMANDS[name](reader, writer, *words)
    writer.close()
    await writer.wait_closed()


async def _nothing(reader: StreamReader, writer: StreamWriter) -> None:
    pass


async def _pid(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"%d" % os.getpid())


async def _echo(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _count(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"%d" % len(await reader.read()))


async def _shut(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"bye")
    writer.write_eof()
    _heard.append(await reader.read(100))


async def _heard_by_shut(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"".join(_heard))


async def _flood(reader: StreamReader, writer: StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def _ask(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"?")
    writer.write((await reader.read(100))[::-1])


async def _wait(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"?")
    try:
        await reader.read(100)
    except asyncio.CancelledError:
        _note("ended by CancelledError")
        raise
    finally:
        _note("finally")


def _note(text: str) -> None:
    with open(os.environ["NOTES"], "a") as file:  # noqa: PTH123
        file.write(f"{text}\n")


async def _spin(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"?")
    await asyncio.sleep(0)
    while True:
        pass


async def _fail(reader: StreamReader, writer: StreamWriter) -> None:
    raise LookupError("as asked")


async def _exit(reader: StreamReader, writer: StreamWriter) -> None:
    raise SystemExit(3)


async def _greenlet_exit(reader: StreamReader, writer: StreamWriter) -> None:
    raise greenlet.GreenletExit


async def _timeout(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        async with asyncio.timeout(0.05):
            await reader.read(1)
    except TimeoutError:
        writer.write(b"timed out")


async def _spawn(reader: StreamReader, writer: StreamWriter) -> None:
    """Greenlets and their joining from a coroutine: all that parks is called by `green`."""
    order: list[int] = []

    def nap(number: int) -> int:
        hybrid.sleep(0.02 * number)
        order.append(number)
        return number

    def stumble() -> None:
        raise LookupError

    started = [hybrid.spawn(nap, number) for number in (3, 1, 2)]
    await hybrid.green(hybrid.joinall, started)
    try:
        await hybrid.green(stumble)
    except LookupError:
        writer.write(f"{order} {[item.get() for item in started]}".encode())


async def _await(reader: StreamReader, writer: StreamWriter) -> None:
    """From a coroutine into a greenlet and back."""

    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0.01)
        return a + b

    writer.write(b"%d" % await hybrid.green(lambda: hybrid.await_(add(40, 2))))


async def _connect(reader: StreamReader, writer: StreamWriter) -> None:
    host, port = writer.get_extra_info("sockname")[:2]

    def ask() -> bytes:
        with hybrid.connect((host, port), timeout=5) as other:
            other.sendall(b"ask\n")
            other.recv(1)
            other.sendall(b"olleh")
            return other.recv(100)

    writer.write(await hybrid.green(ask))


async def _kill(reader: StreamReader, writer: StreamWriter) -> None:
    """Cancel the coroutine that waits for a greenlet: the greenlet ends too, and its `finally` runs."""
    ended: list[str] = []

    def sleep() -> None:
        try:
            hybrid.sleep(60)
        finally:
            ended.append("finally")

    waiting = asyncio.create_task(hybrid.green(sleep))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0.01)
    writer.write(f"{ended} {waiting.cancelled()}".encode())


async def _many(reader: StreamReader, writer: StreamWriter, count: str) -> None:
    """Have that many tasks alive at once: each waits for the last one."""
    gate = asyncio.Event()
    awake = 0

    async def stand() -> None:
        nonlocal awake
        awake += 1
        await gate.wait()

    tasks = [asyncio.create_task(stand()) for _ in range(int(count))]
    while awake < int(count):
        await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(*tasks)
    writer.write(b"%d" % awake)


COMMANDS: dict[str, Command] = {
    "nothing": _nothing,
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
