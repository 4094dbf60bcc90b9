"""WebSockets over WSGI: the bare socket of the environ, without a library, whose import takes a while."""

from __future__ import annotations

import threading
from typing import Any


def bare(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """/stay: answer 101 and send back what comes, to the end of the stream; elsewhere answer by the rules of WSGI."""
    sock = environ.get("werkzeug.socket")
    match environ["PATH_INFO"]:
        case "/stay":
            peer = sock.getpeername()
            assert (peer[0], str(peer[1])) == (environ["REMOTE_ADDR"], environ["REMOTE_PORT"])
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            while data := sock.recv(65_536):
                sock.sendall(data)
            print("the end of the stream", file=environ["wsgi.errors"], flush=True)
        case "/flood":
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            try:
                while True:
                    sock.sendall(b"x" * 65_536)
            except OSError as error:
                print("the flood ended", type(error).__name__, file=environ["wsgi.errors"], flush=True)
                raise
        case "/large":
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + b"x" * 3_000_000)
        case _:
            thread = threading.current_thread().name
            start_response("200 OK", [("Content-Type", "text/plain"), ("X-Thread", thread)])
            return [b"without a socket" if sock is None else b"with a socket"]
    return []
