"""Handlers and web applications that fork: by `multiprocessing`, or by hand."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import hybrid


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


def _fork_for(path: str) -> str:
    """Fork if the path says so; return what to answer. In the child do what the path ends with, or return that."""
    if not path.startswith("/fork/"):
        return f"for {path}"
    way = path.rpartition("/")[2]
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return f"{way}: {os.waitstatus_to_exitcode(status)}"
    if way == "raise":
        raise LookupError("in the child")
    if way == "exit":
        sys.exit(7)
    if way == "park":
        hybrid.sleep(10)  # it never wakes: on a busy machine a short sleep could end within the turn that began it
    return way


def web_sync(environ: dict[str, Any], start_response: Any) -> Any:
    """Answer with the path, or fork and tell how the child ended, which goes on as if it were the worker."""
    answer = _fork_for(environ["PATH_INFO"])
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if answer == "write":
        write(b"<from the child>")
        raise LookupError("the child went on")
    if answer == "hint":
        environ["wsgi.early_hints"]([("link", "</from-the-child>")])
        raise LookupError("the child went on")
    if answer == "yield":
        return iter([b"<from ", b"the child>"])
    if answer == "read":
        environ["wsgi.input"].read()
    return [f"<{answer}>".encode()]


def web_generator(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """The same, forked while the answer is iterated over."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b""
    yield f"<{_fork_for(environ['PATH_INFO'])}>".encode()


async def web_async(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same as an ASGI application."""
    if scope["type"] == "lifespan":
        raise LookupError("none")
    never = asyncio.get_running_loop().create_future()  # before the fork: to the child asyncio shows no running loop
    if scope["path"] == "/behind":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"<whole>"})
        logging.getLogger("hybrid").warning("behind the answer: %s", _fork_for("/fork/return"))
        return
    answer = _fork_for(scope["path"])
    if answer == "return":
        return
    if answer == "await":
        await never
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"<{answer}>".encode(), "more_body": answer == "more"})


def _linger() -> None:
    ends = time.perf_counter() + 0.1
    while time.perf_counter() < ends:
        pass


if "SLOW_PARENT" in os.environ:  # let every child end before its parent is back from fork(2)
    os.register_at_fork(after_in_parent=_linger)
