"""The event-driven echo server, written by hand: a loop, three lists, and a queue per connection.

    python examples/select_server.py 9000                 then: nc 127.0.0.1 9000
    python examples/select_server.py 9000 --poller epoll  the same on poll(2) or epoll(7)

Everything happens in one place. If the listener is readable, there is a new connection. If a connection is readable,
there are bytes for its queue, or EOF. If a connection is writable, the head of its queue is sent; with an empty queue
the poller no longer watches for writability. A connection in error is closed. `select_handler.py` is the same service
in three lines, because the loop exists already; compare the two.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import socket

from hybrid.workers.pollers import ERROR, HANGUP, READ, WRITE, Poller, open_poller

CHUNK = 1024  # bytes read at once
MOST_QUEUED = 64  # chunks queued for a client that does not read; above that its data stays in the kernel


class Server:
    """The connections and the data still to send to each."""

    def __init__(self, listener: socket.socket, poller: Poller) -> None:
        self.listener = listener
        self.poller = poller
        self.connections: dict[int, socket.socket] = {}  # fd -> connection
        self.queues: dict[int, collections.deque[bytes]] = {}  # fd -> data to send, oldest first
        self.finished: set[int] = set()  # fds of clients that sent EOF and still wait for queued data
        listener.setblocking(False)  # a client may be gone between the poll and the accept
        poller.add(listener.fileno(), READ)

    def turn(self, timeout: float | None = None) -> None:
        """Wait until descriptors are ready, and handle all of them. Blocks at most `timeout` seconds.

        New connections come last: one of them may get the number of a descriptor closed a moment ago, to which the
        lists still refer.
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
        """The listener is readable: accept a connection."""
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.connections[connection.fileno()] = connection
            self.queues[connection.fileno()] = collections.deque()
            self.poller.add(connection.fileno(), READ)

    def receive(self, fd: int) -> None:
        """A connection is readable: queue its data, or handle EOF."""
        try:
            data = self.connections[fd].recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.forget(fd)  # reset by the client: drop the queued data
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
        """A connection is writable: send the head of its queue, and keep the unsent rest."""
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
        """Watch for writability while data is queued, and for readability while the queue has room."""
        queued = len(self.queues[fd])
        wants_more = queued < MOST_QUEUED and fd not in self.finished
        self.poller.modify(fd, (WRITE if queued else 0) | (READ if wants_more else 0))

    def forget(self, fd: int) -> None:
        """Remove and close a connection. Remove it from the poller first: the number may be reused."""
        self.poller.remove(fd)
        self.finished.discard(fd)
        del self.queues[fd]
        self.connections.pop(fd).close()

    def close(self) -> None:
        """Close all connections, the poller and the listener."""
        for fd in list(self.connections):
            self.forget(fd)
        self.poller.close()
        self.listener.close()


def three_lists(ready: list[tuple[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Return the same as `select.select`: the descriptors that are readable, writable, and in error.

    A hang-up counts as readable: `recv` returns the received data first, and then EOF.
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
