"""The service of `select_server.py` as a handler, on hybrid's loop.

hybrid run --loop select --bind 127.0.0.1:9000 examples.select_handler:handle
"""

import socket


def handle(sock: socket.socket, address: object) -> None:
    """Echo all data. For a slow client, `sendall` waits: no queue is needed."""
    while data := sock.recv(1024):
        sock.sendall(data)
