"""A service inside your own program: a `with` block starts and stops it.

    python examples/embedded.py

The supervisor runs in a separate process, and the workers are its children; your program continues meanwhile. The
handler may be a closure: it is pickled for the workers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import hybrid


def make_greeter(greeting: str) -> Callable[[socket.socket, object], None]:
    """Return a handler that remembers `greeting`."""

    def greet(sock: socket.socket, address: object) -> None:
        name = sock.recv(100).decode(errors="replace").strip()
        sock.sendall(f"{greeting}, {name}!\n".encode())

    return greet


def ask(address: str, name: str) -> str:
    """Connect to `host:port`, send a name, and return the answer."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(name.encode() + b"\n")
        with sock.makefile("r") as answer:
            return answer.readline().strip()


def main() -> None:
    """Start the service, query it, scale it, print its status, and stop it."""
    service = hybrid.Service(make_greeter("hello"), bind="127.0.0.1:0", workers=1, loop="epoll", log_level="warning")
    with hybrid.Supervisor(service) as running:
        print(ask(running.addresses[0], "world"))
        running.scale(2)
        for worker in running.status().workers:
            print(f"slot {worker.slot}: {worker.state}")
    print("ended")


if __name__ == "__main__":
    main()
