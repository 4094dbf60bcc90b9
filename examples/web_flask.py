"""A Flask application: routes, a form, and a list that every worker has for itself. Needs `pip install flask`.

    hybrid run --bind 127.0.0.1:9000 examples.web_flask:app
    curl http://127.0.0.1:9000/hello/you
    curl -d note=milk http://127.0.0.1:9000/notes

Each request runs in a greenlet: one that waits for its client holds up nobody. One that waits for a database by an
ordinary driver does; `--loop gevent`, or threads (`--threads 8`), are for that.
"""

from __future__ import annotations

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

app = Flask(__name__)
notes: list[str] = []  # of this worker only: with several workers, keep such things in a database


@app.get("/hello/<name>")
def hello(name: str) -> ResponseReturnValue:
    """Greet."""
    return f"hello, {name}!\n"


@app.post("/notes")
def add() -> ResponseReturnValue:
    """Keep a note."""
    notes.append(request.form["note"])
    return jsonify(notes), 201
