"""A Flask application: routes, a form, and a list that is separate in every worker. Needs `pip install flask`.

    hybrid run --bind 127.0.0.1:9000 examples.web_flask:app
    curl http://127.0.0.1:9000/hello/you
    curl -d note=milk http://127.0.0.1:9000/notes

Each request runs in a greenlet: while it waits for its client, others run. A request that waits for a database with an
ordinary driver blocks the worker; use `--loop gevent` or threads (`--threads 8`) for that.
"""

from __future__ import annotations

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

app = Flask(__name__)
notes: list[str] = []  # of this worker only: with several workers, use a database


@app.get("/hello/<name>")
def hello(name: str) -> ResponseReturnValue:
    """Greet."""
    return f"hello, {name}!\n"


@app.post("/notes")
def add() -> ResponseReturnValue:
    """Keep a note."""
    notes.append(request.form["note"])
    return jsonify(notes), 201
