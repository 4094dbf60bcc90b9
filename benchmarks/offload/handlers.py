"""A caller as a handler of hybrid: it reads a task, measures `hybrid.offload`, and writes the answer."""

from __future__ import annotations

import asyncio
import socket

import hybrid
from benchmarks.offload import blocking, waiting
from benchmarks.offload.task import MOST_BYTES, line, task_of


async def coroutine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Measure in coroutines."""
    task = task_of(await reader.readline())
    writer.write(line(await waiting.measure(task, hybrid.offload)))
    await writer.drain()
    writer.close()


def greenlet(sock: socket.socket, address: object) -> None:
    """Measure in a greenlet, which `Job.result` parks."""
    task = task_of(sock.recv(MOST_BYTES))
    sock.sendall(line(blocking.measure(task, hybrid.offload)))
