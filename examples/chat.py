"""A chat server: async handlers, rooms, and the consequences of several processes.

    hybrid run --workers 1 --bind 127.0.0.1:9000 examples.chat:handle
    nc 127.0.0.1 9000                                      twice, and talk; /join ROOM changes the room, /quit leaves

**Rooms are in the memory of a worker, and workers share no memory.** The kernel decides which worker gets a connection,
so with two workers half of your friends cannot hear you. There are two solutions:

  one worker      `--workers 1`: enough as long as one core can handle the chat, and a core handles a lot
  a bridge        workers forward messages to each other, here by UNIX datagrams in a shared directory:

    mkdir /tmp/chat
    CHAT_BRIDGE=/tmp/chat hybrid run --workers 2 --bind 127.0.0.1:9000 examples.chat:handle

Between machines, use UDP or a message broker. Such a bridge may lose a message when another worker is overloaded. That
is fine for a chat, but not for payments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path

LOBBY = "lobby"
LONGEST = 1024  # characters of a message
MOST_UNREAD = 100  # unread messages before a client is disconnected, so that slow clients do not fill our memory
BRIDGE = os.environ.get("CHAT_BRIDGE")


class Member:
    """A connected client. Each has its own queue of messages, so that a slow client does not delay others."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.name = "?"
        self.room = LOBBY
        self.unread: asyncio.Queue[str] = asyncio.Queue(MOST_UNREAD)
        self._writer = writer

    def tell(self, text: str) -> None:
        """Queue a message; disconnect a client that is too far behind. Never waits."""
        try:
            self.unread.put_nowait(text)
        except asyncio.QueueFull:
            self._writer.transport.abort()

    async def write_out(self) -> None:
        """Send the messages as fast as the client reads them, until cancelled."""
        while True:
            text = await self.unread.get()
            self._writer.write(f"{text}\n".encode())
            await self._writer.drain()


members: set[Member] = set()  # the clients of this worker


def deliver(room: str, text: str) -> None:
    """Send a message to the clients of this worker that are in the room."""
    for member in list(members):
        if member.room == room:
            member.tell(text)


def say(room: str, text: str) -> None:
    """Send a message to the room, and to the other workers if there is a bridge."""
    deliver(room, text)
    if bridge is not None:
        bridge.send(room, text)


class Bridge:
    """Datagrams between the workers. Each has a UNIX socket in a directory, named after its process id."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._sock: socket.socket | None = None  # created for the first member

    def open(self) -> None:
        """Open the socket unless it is open. Works on every loop, because it only needs `add_reader`."""
        if self._sock is None:
            path = self._directory / f"{os.getpid()}.sock"
            path.unlink(missing_ok=True)  # left by a process with the same id
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)  # not SOCK_NONBLOCK: gevent's sockets would wait nevertheless
            self._sock.bind(str(path))
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._receive)

    def send(self, room: str, text: str) -> None:
        """Send a message to all other workers. Never waits: a worker that cannot keep up misses it."""
        assert self._sock is not None
        message = json.dumps([room, text]).encode()
        for path in self._directory.glob("*.sock"):
            if path.stem != str(os.getpid()):
                try:
                    self._sock.sendto(message, str(path))
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)  # its worker is dead
                except OSError:
                    continue  # its queue is full, or the worker is exiting

    def _receive(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                room, text = json.loads(self._sock.recv(65536))
                deliver(room, text)


bridge = Bridge(BRIDGE) if BRIDGE else None


async def listen(member: Member, reader: asyncio.StreamReader) -> None:
    """Execute the lines of the client until it leaves."""
    member.tell("your name?")
    while line := await reader.readline():
        text = line.decode(errors="replace").strip()[:LONGEST]
        if text == "/quit":
            return
        if member.name == "?":
            member.name = text or "somebody"
            say(member.room, f"* {member.name} is here")
        elif text.startswith("/join "):
            say(member.room, f"* {member.name} has left for another room")
            member.room = text.removeprefix("/join ").strip()
            say(member.room, f"* {member.name} is here")
        elif text:
            say(member.room, f"{member.name}: {text}")


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client: this task reads, a second one writes."""
    if bridge is not None:
        bridge.open()
    member = Member(writer)
    members.add(member)
    writing = asyncio.create_task(member.write_out())
    try:
        await listen(member, reader)
    except (ConnectionError, ValueError):
        pass  # reset, or a line longer than the reader's limit (ValueError)
    finally:
        members.discard(member)
        writing.cancel()
        if member.name != "?":
            say(member.room, f"* {member.name} has gone")
        writer.close()
