"""Calls that leave the process, from every kind of code; the request's path says which call, and how it is made."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hybrid

VERSION = Path("version").read_text() if Path("version").exists() else "1"


class Cart:
    """An object of the application that cannot be copied: it holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.price = 3

    def total(self, count: int) -> int:
        with self.lock:
            return self.price * count


CART = Cart()


class UnreadableError(Exception):
    """It can be pickled, and not be made again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def whereabouts() -> str:
    """Return the pid, that of the parent, the priority, and the version of this module."""
    return f"{os.getpid()} {os.getppid()} {os.nice(0)} {VERSION}"


def echo(text: str) -> str:
    return text


def pid(_: str) -> int:
    return os.getpid()


def fails(text: str) -> None:
    raise LookupError(text)


def fails_unreadably(text: str) -> None:
    raise UnreadableError(text, "twice")


def exits(code: str) -> None:
    sys.exit(int(code))


def refused(_: str) -> Any:
    return {"cart": Cart()}


def nested(text: str) -> str:
    """Offload within an offloaded call."""
    job = hybrid.offload(whereabouts)
    return f"{os.getpid() == int(job.result().split()[0])} {hybrid.offload(echo, text).result()}"


def note(name: str) -> None:
    """Say in a file of that name that the call runs here."""
    part = Path(f"{name}.part-{os.getpid()}")
    part.write_text(str(os.getpid()))
    part.rename(name)


def wait(name: str) -> str:
    """Run until a file is there; say first that it runs, and at last whether it was interrupted."""
    try:
        note(f"{name}.runs")
        while not Path(name).exists():
            time.sleep(0.005)
    except BaseException:
        note(f"{name}.interrupted")
        raise
    note(f"{name}.done")
    return f"{os.getpid()}"


def sleep(name: str) -> None:
    """Sleep in one call of C."""
    try:
        note(f"{name}.runs")
        time.sleep(60)
    except BaseException:
        note(f"{name}.interrupted")
        raise


def spin(name: str) -> None:
    """Compute."""
    try:
        note(f"{name}.runs")
        while True:
            pass
    except BaseException:
        note(f"{name}.interrupted")
        raise


def swallow(name: str) -> None:
    """Catch everything, again and again."""
    note(f"{name}.runs")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def parent_of(name: str) -> None:
    """Wait with a child that shares all descriptors."""
    if os.fork() == 0:
        note(f"{name}.child")
        while not Path(name).exists():
            time.sleep(0.01)
        os._exit(0)
    while not Path(f"{name}.child").exists():
        time.sleep(0.01)
    spin(name)


def forks(_: str) -> str:
    """Return in two processes; the parent returns once the child has ended, or cannot tell."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return f"child {child > 0}"


def closes(_: str) -> None:
    """Close the queue's descriptor, as a call may that closes what it does not know."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the entries may vanish
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                os.close(int(name))


def leaves_alarm(_: str) -> int:
    """Return while a timer runs whose signal raises."""

    def ring(number: int, frame: object) -> None:
        raise LookupError("an alarm of a call that has ended")

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGIO):
        signal.signal(number, ring)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGIO})
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    return os.getpid()


def closes_all(_: str) -> None:
    """Close all descriptors but those of the standard streams."""
    os.closerange(3, 4096)


def big(size: str) -> bytes:
    return b"x" * int(size)


def hoard(size: str) -> str:
    """Keep memory in use after the call."""
    HOARD.append(bytearray(b"x") * int(size))
    return f"{os.getpid()}"


HOARD: list[bytearray] = []


def die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(_: str) -> None:
    ctypes.string_at(0)


def die_once(name: str) -> str:
    """Die when called for the first time."""
    if not Path(name).exists():
        note(name)
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


CALLS = (echo, pid, fails, fails_unreadably, exits, refused, nested, wait, sleep, spin, swallow, big, hoard)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (*CALLS, die, crash, leaves_alarm, closes_all, die_once, parent_of, forks, closes)
}


def job(target: str) -> hybrid.Job[Any]:
    """Offload what a target says: `/NAME?ARGUMENT&timeout=S&retries=N&pool=NAME`."""
    path, _, query = target.partition("?")
    words = query.split("&")
    kinds: dict[str, Callable[[str], object]] = {"timeout": float, "retries": int, "pool": str}
    given = urllib.parse.parse_qsl("&".join(words[1:]))
    options: dict[str, Any] = {name: kinds[name](value) for name, value in given}
    name = path.rpartition("/")[2]
    if name == "where":
        return hybrid.offload(whereabouts, **options)
    if name == "closure":
        count, cart = int(words[0]), CART
        return hybrid.offload(lambda: f"{cart.total(count)} {cart is CART} {os.getpid()}", **options)
    return hybrid.offload(FUNCTIONS[name], words[0], **options)


def told(call: Callable[[], object]) -> str:
    """Return the result of a call, or its error, as text."""
    try:
        return str(call())
    except Exception as error:  # noqa: BLE001 - the test compares it
        return _words(error)


def _words(error: BaseException) -> str:
    cause = f" <- {error.__cause__}" if error.__cause__ is not None else ""
    return f"{type(error).__name__}: {error}{cause}"


def said(target: str) -> str:
    """Make a call in blocking style."""
    if target.startswith("/map/"):
        return told(lambda: list(hybrid.executor().map(echo, target.rpartition("/")[2])))
    return told(lambda: job(target).result())


async def said_async(target: str) -> str:
    """Make a call in a coroutine."""
    first, _, rest = target[1:].partition("/")
    if first == "thread":
        return await asyncio.to_thread(said, f"/{rest}")
    if first == "plain":
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(said(f"/{rest}")))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.002)
        return found[0]
    if first == "green":
        return str(await hybrid.green(said, f"/{rest}"))
    if first in ("executor", "executor-ml"):
        loop = asyncio.get_running_loop()
        name, _, argument = rest.partition("?")
        pool = hybrid.executor() if first == "executor" else hybrid.executor(pool="ml")
        try:
            return str(await loop.run_in_executor(pool, FUNCTIONS[name], argument))
        except Exception as error:  # noqa: BLE001 - the test compares it
            return _words(error)
    if first == "both":
        one = job(f"/{rest}")
        return " ".join(await asyncio.gather(waited(one), waited(one)))
    if first.startswith("both-pools"):
        return await one_after_another(first.partition("?")[2] + f"/{rest}")
    if first == "cancelled":
        return await cancelled(f"/{rest}")
    if first == "many":
        return await many(int(rest))
    if first == "full":
        return await full(rest)
    if first == "waiting":
        return await waiting(rest)
    if first == "versions":
        return f"{VERSION} {(await hybrid.offload(whereabouts)).split()[3]}"
    return await waited(job(target))


async def one_after_another(name: str) -> str:
    """Make a call, then one to each of two pools."""
    first = await waited(job(f"/wait?{name}"))
    return f"{first} {await waited(job('/pid?'))} {await waited(job('/pid?&pool=ml'))}"


async def waited(one: hybrid.Job[Any]) -> str:
    """Await a job; return its result or error as text."""
    try:
        return str(await one)
    except Exception as error:  # noqa: BLE001 - the test compares it
        return _words(error)


async def cancelled(target: str) -> str:
    """Cancel a call once it runs."""
    name = target.partition("?")[2]
    one = job(target)
    while not Path(f"{name}.runs").exists():
        await asyncio.sleep(0.005)
    assert one.cancel()
    is_at_once = one.done()
    text = await waited(one)
    return f"{text} at once: {is_at_once}"


async def abandoned(name: str, receive: Any) -> None:
    """Cancel the task that awaits a call once the client has gone."""
    task = asyncio.ensure_future(waited(job(f"/spin?{name}")))
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


async def waiting(name: str) -> str:
    """Cancel a call that waits behind one that runs."""
    first = job(f"/wait?{name}")
    while not Path(f"{name}.runs").exists():
        await asyncio.sleep(0.005)
    second = job(f"/wait?{name}-second")
    second.cancel()
    Path(name).touch()
    await waited(first)
    return await waited(second)


async def full(name: str) -> str:
    """Fill the queue, and offload in four ways; then let all calls end."""
    jobs = [job(f"/wait?{name}")]
    while not Path(f"{name}.runs").exists():
        await asyncio.sleep(0.005)
    jobs += [job("/echo?filler") for _ in range(64)]
    refused = told(lambda: hybrid.offload(echo, "refused", wait=False).result())
    in_thread = asyncio.ensure_future(asyncio.to_thread(said, "/echo?thread"))
    in_greenlet = asyncio.ensure_future(hybrid.green(said, "/echo?greenlet"))
    last = job("/echo?coroutine")
    await asyncio.sleep(0)
    Path(name).touch()
    await asyncio.gather(*map(waited, jobs))
    return f"{refused}; {await in_thread} {await in_greenlet} {await waited(last)}"


async def many(count: int) -> str:
    """Make calls, cancel half of them at random moments, and say what became of all."""
    import random

    chance = random.Random(count)
    loop = asyncio.get_running_loop()
    jobs = [hybrid.offload(work, number) for number in range(count)]
    chosen = set(chance.sample(range(count), count // 2))
    for number in chosen:
        loop.call_later(chance.random() * count * 0.0003, jobs[number].cancel)
    await asyncio.wait([asyncio.ensure_future(waited(one)) for one in jobs])
    wrong = [one for number, one in enumerate(jobs) if not _is_right(number, one, number in chosen)]
    lost = sum(not one.done() for one in jobs)
    return f"lost {lost}, wrong {len(wrong)} {wrong[:3]}, cancelled {sum(one.cancelled() for one in jobs)}"


def _is_right(number: int, one: hybrid.Job[Any], was_chosen: bool) -> bool:
    return was_chosen if one.cancelled() else one.exception() is None and one.result() == number * 2


def work(number: int) -> int:
    """Compute for about 0.2 ms."""
    sum(range(5000))
    return number * 2


# --- the kinds of application


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the outcome of the call, as an ASGI application."""
    if scope["type"] != "http":
        raise LookupError("none")
    query = scope["query_string"].decode()
    if scope["path"] == "/abandon":
        await abandoned(query, receive)
        return
    text = await said_async(scope["path"] + (f"?{query}" if query else ""))
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": text.encode()})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The same as a WSGI application."""
    query = environ["QUERY_STRING"]
    text = said(environ["PATH_INFO"] + (f"?{query}" if query else ""))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]


def handle(sock: socket.socket, address: Any) -> None:
    """The same as a stream handler."""
    sock.sendall(said(sock.recv(1000).decode()).encode())


def datagram(data: bytes, address: Any, transport: Any) -> None:
    """The same for a datagram."""
    transport.sendto(said(data.decode()).encode(), address)


class Protocol(asyncio.Protocol):
    """The same as a protocol: `data_received` runs outside of a task."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        job(data.decode()).add_done_callback(self.answer)

    def answer(self, one: hybrid.Job[Any]) -> None:
        self.transport.write(told(one.result).encode())
        self.transport.close()


async def companion() -> None:
    """Offload from a companion; write the result into a file."""
    Path("companion.part").write_text(await said_async("/where"))
    Path("companion.part").rename("companion.done")
    await asyncio.get_running_loop().create_future()
