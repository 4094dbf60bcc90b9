"""The service of `select_server.py`, as a handler: the loop is hybrid's.

hybrid run --loop select --bind 127.0.0.1:9000 examples.select_handler:handle
"""

import socket


def handle(sock: socket.socket, address: object) -> None:
    """Send back what comes; the queue of a slow client is this very line, waiting in `sendall`."""
    while data := sock.recv(1024):
        sock.sendall(data)
