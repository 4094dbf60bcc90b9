"""A chat server: async handlers, rooms, and the truth about processes.

    hybrid run --workers 1 --bind 127.0.0.1:9000 examples.chat:handle
    nc 127.0.0.1 9000                                      twice, and talk; /join ROOM changes the room, /quit leaves

**Rooms live in the memory of a worker, and a worker knows nothing of its siblings.** The kernel decides which worker
gets a connection, so with two workers half of your friends cannot hear you. Two ways out:

  one worker      `--workers 1`: right as long as one core can carry the talk, and a core carries a lot of it
  a bridge        let the workers pass messages on; here by UNIX datagrams in a directory all of them know:

    mkdir /tmp/chat
    CHAT_BRIDGE=/tmp/chat hybrid run --workers 2 --bind 127.0.0.1:9000 examples.chat:handle

Between machines the same is done over UDP or a message broker. Such a bridge may lose a message when a sibling is
overwhelmed: for a chat that is right, for money it is not.
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
MOST_UNREAD = 100  # messages a client may be behind before it is sent away: nobody's silence may fill our memory
BRIDGE = os.environ.get("CHAT_BRIDGE")


class Member:
    """Somebody who listens. Messages wait in a queue of its own, so that a slow client delays nobody."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.name = "?"
        self.room = LOBBY
        self.unread: asyncio.Queue[str] = asyncio.Queue(MOST_UNREAD)
        self._writer = writer

    def tell(self, text: str) -> None:
        """Queue a message; somebody who is too far behind is disconnected. Never waits."""
        try:
            self.unread.put_nowait(text)
        except asyncio.QueueFull:
            self._writer.transport.abort()

    async def write_out(self) -> None:
        """Send the messages as fast as the client reads them, for ever."""
        while True:
            text = await self.unread.get()
            self._writer.write(f"{text}\n".encode())
            await self._writer.drain()


members: set[Member] = set()  # who is connected to this worker


def deliver(room: str, text: str) -> None:
    """Tell everybody of this worker who is in the room."""
    for member in list(members):
        if member.room == room:
            member.tell(text)


def say(room: str, text: str) -> None:
    """Tell everybody in the room, and the other workers if there is a bridge."""
    deliver(room, text)
    if bridge is not None:
        bridge.send(room, text)


class Bridge:
    """Datagrams between the workers: one UNIX socket each, in a directory; its name is the process id."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._sock: socket.socket | None = None  # made with the first member: without one there is nobody to hear

    def open(self) -> None:
        """Listen, if this worker does not yet. Works on every loop, for it needs `add_reader` only."""
        if self._sock is None:
            path = self._directory / f"{os.getpid()}.sock"
            path.unlink(missing_ok=True)  # left by a process that had our number
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)  # not SOCK_NONBLOCK: gevent's sockets would wait all the same
            self._sock.bind(str(path))
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._receive)

    def send(self, room: str, text: str) -> None:
        """Pass a message on to all siblings. Never waits: one that cannot keep up misses it."""
        assert self._sock is not None
        message = json.dumps([room, text]).encode()
        for path in self._directory.glob("*.sock"):
            if path.stem != str(os.getpid()):
                try:
                    self._sock.sendto(message, str(path))
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)  # its worker is dead
                except OSError:
                    continue  # the rule: a full queue, or a sibling that is just leaving

    def _receive(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                room, text = json.loads(self._sock.recv(65536))
                deliver(room, text)


bridge = Bridge(BRIDGE) if BRIDGE else None


async def listen(member: Member, reader: asyncio.StreamReader) -> None:
    """Do what the client says, line by line, until it leaves."""
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
        pass  # reset, or a line without end (ValueError: longer than the reader's limit)
    finally:
        members.discard(member)
        writing.cancel()
        if member.name != "?":
            say(member.room, f"* {member.name} has gone")
        writer.close()
