"""Handlers that fork: by `multiprocessing`, or by hand."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import threading
import time
from typing import Any


def _sleep() -> None:
    time.sleep(60)


def terminated(sock: socket.socket, address: Any) -> None:
    """Start a child by fork, terminate it, and tell how it ended."""
    sock.recv(100)
    child = multiprocessing.get_context("fork").Process(target=_sleep)
    child.start()
    child.terminate()
    child.join(10)
    sock.sendall(f"{child.exitcode} {os.getpid()}".encode())


async def closed_in_child(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Fork a child that closes the connection and leaves; then go on with it."""
    await reader.read(100)
    child = os.fork()
    if child == 0:
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.write(b"forked")
    writer.write(await reader.read(100))
    writer.close()


def closed_in_child_sync(sock: socket.socket, address: Any) -> None:
    """The same in blocking style."""
    sock.recv(100)
    child = os.fork()
    if child == 0:
        sock.close()
        os._exit(0)
    os.waitpid(child, 0)
    sock.sendall(b"forked")
    sock.sendall(sock.recv(100))


def returned_in_child(sock: socket.socket, address: Any) -> None:
    """Fork a child that returns to the loop as if it were the worker; tell how it ended."""
    sock.recv(100)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        sock.sendall(f"{os.waitstatus_to_exitcode(status)}".encode())


def terminated_by_thread(sock: socket.socket, address: Any) -> None:
    """The same as `terminated`, forked by a thread."""
    sock.recv(100)
    told: list[bytes] = []

    def work() -> None:
        child = multiprocessing.get_context("fork").Process(target=_sleep)
        child.start()
        child.terminate()
        child.join(10)
        told.append(f"{child.exitcode} {os.getpid()}".encode())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    sock.sendall(told[0])


def _linger() -> None:
    ends = time.perf_counter() + 0.1
    while time.perf_counter() < ends:
        pass


if "SLOW_PARENT" in os.environ:  # let every child end before its parent is back from fork(2)
    os.register_at_fork(after_in_parent=_linger)
