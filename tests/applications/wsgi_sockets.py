"""WebSockets over WSGI: flask-sock and Flask-SocketIO."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request
from flask_sock import Sock

flask = Flask(__name__)
flask.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": float(os.environ.get("PING_INTERVAL", "25"))}
sock = Sock(flask)


@sock.route("/echo")
def echo(ws: Any) -> None:
    while True:
        ws.send(ws.receive())


@sock.route("/once")
def once(ws: Any) -> None:
    ws.send(f"{request.args.get('name')} {ws.receive()}")


@sock.route("/crash")
def crash(ws: Any) -> None:
    ws.receive()
    raise LookupError("a broken WebSocket")


@flask.get("/page")
def page() -> str:
    return "a page"


def socketio() -> Any:
    """Make the application of Flask-SocketIO."""
    from flask_socketio import SocketIO, emit

    app = Flask(__name__)
    mode = "gevent" if os.environ.get("LOOP") == "gevent" else "threading"
    io = SocketIO(app, async_mode=mode)

    @io.on("shout")
    def shout(text: str) -> None:
        emit("heard", text.upper())

    return app
