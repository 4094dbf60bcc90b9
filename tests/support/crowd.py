"""A crowd: many connections at once from one thread, each byte of every answer compared."""

from __future__ import annotations

import select
import socket
import time

DEADLINE = 60.0  # seconds for all of it


class Talker:
    """One connection and what it expects to hear next."""

    __slots__ = ("expected", "heard", "number", "round", "sock")

    def __init__(self, address: tuple[str, int], number: int) -> None:
        self.number = number
        self.round = 0
        self.expected = b""
        self.heard = b""
        self.sock = socket.create_connection(address, DEADLINE)

    def say(self) -> None:
        """Send the next line, unlike that of any other connection or round."""
        self.expected = b"connection %06d says line %04d, and the rest is only there to fill it\n" % (
            self.number,
            self.round,
        )
        self.heard = b""
        self.round += 1
        self.sock.sendall(self.expected)

    def hear(self) -> bool:
        """Take in what came; tell whether the answer is complete. Raises `AssertionError` for a wrong byte."""
        self.heard += self.sock.recv(65536)
        assert self.heard, f"connection {self.number} was closed in round {self.round}"
        assert self.expected.startswith(self.heard), (self.expected, self.heard)
        return len(self.heard) == len(self.expected)


def converse(address: tuple[str, int], connections: int, rounds: int, greeting: bytes = b"") -> int:
    """Open all connections; let each send a line and wait for its echo, `rounds` times; return how many came."""
    talkers = [Talker(address, number) for number in range(connections)]
    try:
        return _converse({talker.sock.fileno(): talker for talker in talkers}, rounds, greeting)
    finally:
        for talker in talkers:
            talker.sock.close()


def _converse(talkers: dict[int, Talker], rounds: int, greeting: bytes) -> int:
    echoes = 0
    until = time.monotonic() + DEADLINE
    with select.epoll() as poll:
        for fd, talker in talkers.items():
            if greeting:
                assert talker.sock.recv(len(greeting), socket.MSG_WAITALL) == greeting
            poll.register(fd, select.EPOLLIN)
            talker.say()
        talking = len(talkers)
        while talking:
            assert time.monotonic() < until, f"{talking} connections still wait for an echo after {DEADLINE} s"
            for fd, _ in poll.poll(1):
                talker = talkers[fd]
                if talker.hear():
                    echoes += 1
                    if talker.round < rounds:
                        talker.say()
                    else:
                        poll.unregister(fd)
                        talking -= 1
    return echoes
