"""The event-driven echo server, as one writes it by hand: a loop, three lists, and a queue per connection.

    python examples/select_server.py 9000                 then: nc 127.0.0.1 9000
    python examples/select_server.py 9000 --poller epoll  the same on poll(2) or epoll(7)

Everything happens in one place. The listener readable: a new connection. A connection readable: bytes, which go into
its queue, or nothing, which is its end. A connection writable: the head of its queue is sent; when the queue is
empty, nobody asks any more whether it is writable. A connection in error: forgotten. `select_handler.py` is the same
service in three lines, because the loop is written already; compare what one has to keep in mind in either.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import socket

from hybrid.workers.pollers import ERROR, HANGUP, READ, WRITE, Poller, open_poller

CHUNK = 1024  # bytes read at once
MOST_QUEUED = 64  # pieces waiting for a client that does not read; then its own bytes are left in the kernel


class Server:
    """All there is to know: who is connected, and what is still to be sent to whom."""

    def __init__(self, listener: socket.socket, poller: Poller) -> None:
        self.listener = listener
        self.poller = poller
        self.connections: dict[int, socket.socket] = {}  # fd -> connection
        self.queues: dict[int, collections.deque[bytes]] = {}  # fd -> what is to be sent, oldest first
        self.finished: set[int] = set()  # fds whose client says no more, but waits for what is queued
        listener.setblocking(False)  # a client may be gone between the poll and the accept
        poller.add(listener.fileno(), READ)

    def turn(self, timeout: float | None = None) -> None:
        """Wait until something is ready, and deal with all that is. Blocks at most `timeout` seconds.

        New connections come last: one of them may get the number of a connection that was forgotten a moment ago, and
        what the lists say of that number is not about it.
        """
        readable, writable, exceptional = three_lists(self.poller.wait(timeout))
        for fd in readable:
            if fd in self.connections:
                self.receive(fd)
        for fd in writable:
            if fd in self.connections:
                self.send(fd)
        for fd in exceptional:
            if fd in self.connections:
                self.forget(fd)
        if self.listener.fileno() in readable:
            self.accept()

    def accept(self) -> None:
        """The listener is readable: somebody wants in."""
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.connections[connection.fileno()] = connection
            self.queues[connection.fileno()] = collections.deque()
            self.poller.add(connection.fileno(), READ)

    def receive(self, fd: int) -> None:
        """A connection is readable: bytes for its queue, or its end."""
        try:
            data = self.connections[fd].recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.forget(fd)  # reset by the client: nobody is there to read what is queued
            return
        if data:
            self.queues[fd].append(data)
        elif self.queues[fd] and fd not in self.finished:
            self.finished.add(fd)
        else:
            self.forget(fd)
            return
        self.watch(fd)

    def send(self, fd: int) -> None:
        """A connection is writable: send the head of its queue, and keep what did not fit."""
        queue = self.queues[fd]
        try:
            sent = self.connections[fd].send(queue[0])
        except BlockingIOError:
            return
        except OSError:
            self.forget(fd)
            return
        rest = queue.popleft()[sent:]
        if rest:
            queue.appendleft(rest)
        if queue or fd not in self.finished:
            self.watch(fd)
        else:
            self.forget(fd)

    def watch(self, fd: int) -> None:
        """Ask for what makes sense now: room while something waits, bytes while there is a place for them."""
        queued = len(self.queues[fd])
        wants_more = queued < MOST_QUEUED and fd not in self.finished
        self.poller.modify(fd, (WRITE if queued else 0) | (READ if wants_more else 0))

    def forget(self, fd: int) -> None:
        """Take a connection out of everything. Out of the poller first: the number may be given out again."""
        self.poller.remove(fd)
        self.finished.discard(fd)
        del self.queues[fd]
        self.connections.pop(fd).close()

    def close(self) -> None:
        """Let go of everything."""
        for fd in list(self.connections):
            self.forget(fd)
        self.poller.close()
        self.listener.close()


def three_lists(ready: list[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Return what `select.select` returns: the descriptors that are readable, writable, and in error.

    A hang-up counts as readable: the next `recv` returns what has arrived, and then the end.
    """
    readable = [fd for fd, mask in ready if mask & (READ | HANGUP)]
    writable = [fd for fd, mask in ready if mask & WRITE]
    exceptional = [fd for fd, mask in ready if mask & ERROR]
    return readable, writable, exceptional


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The event-driven echo server.")
    parser.add_argument("port", nargs="?", type=int, default=9000, help="0: a free one")
    parser.add_argument("--poller", choices=("select", "poll", "epoll"), default="select")
    given = parser.parse_args()
    try:
        listener = socket.create_server(("127.0.0.1", given.port))
    except OSError as error:
        raise SystemExit(
            f"cannot listen on port {given.port}: {errno.errorcode.get(error.errno or 0, error)}"
        ) from None
    server = Server(listener, open_poller(given.poller))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(server):
        while True:
            server.turn()


if __name__ == "__main__":
    main()
