"""A Flask application of what Flask's quickstart shows: routes, forms, files, sessions, cookies, errors, streaming."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from typing import Any

from flask import (
    Flask,
    abort,
    flash,
    g,
    get_flashed_messages,
    jsonify,
    make_response,
    redirect,
    render_template_string,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from markupsafe import escape
from werkzeug.utils import secure_filename

app = Flask(__name__)
app.secret_key = b'_5#y2L"F4Q8z\n\xec]/'


@app.route("/")
def index() -> str:
    if "username" in session:
        return f"Logged in as {escape(session['username'])}"
    return "You are not logged in"


@app.route("/login", methods=["GET", "POST"])
def login() -> Any:
    if request.method == "POST":
        session["username"] = request.form["username"]
        flash("You were successfully logged in")
        return redirect(url_for("index"))
    return '<form method="post"><input name=username><input type=submit></form>'


@app.route("/logout")
def logout() -> Any:
    session.pop("username", None)
    return redirect(url_for("index"))


@app.route("/flashed")
def flashed() -> Any:
    return jsonify(get_flashed_messages())


@app.route("/hello/<name>")
def hello(name: str) -> str:
    return render_template_string("<h1>Hello {{ person }}!</h1>", person=name)


@app.route("/search")
def search() -> Any:
    return {"key": request.args.get("key", ""), "url": url_for("hello", name="John Doe"), "remote": request.remote_addr}


@app.route("/upload", methods=["POST"])
def upload() -> Any:
    file = request.files["the_file"]
    digest = hashlib.sha256(file.stream.read()).hexdigest()
    return {"name": secure_filename(file.filename or ""), "digest": digest, "note": request.form["note"]}


@app.route("/json", methods=["POST"])
def json() -> Any:
    return jsonify(request.get_json()), 201


@app.route("/download")
def download() -> Any:
    return send_file(request.args["path"], as_attachment=True, conditional=True)


@app.route("/cookie")
def cookie() -> Any:
    response = make_response(request.cookies.get("visits", "0"))
    response.set_cookie("visits", str(int(request.cookies.get("visits", "0")) + 1))
    response.set_cookie("second", "another")
    return response


@app.route("/large.csv")
def generate_large_csv() -> Any:
    def generate() -> Iterator[str]:
        for row in range(int(request.args["rows"])):
            yield f"{row},{request.args['rows']}\n"

    return app.response_class(stream_with_context(generate()), mimetype="text/csv")


@app.route("/denied")
def denied() -> Any:
    abort(401)


@app.errorhandler(404)
def page_not_found(error: Any) -> Any:
    return f"This page does not exist: {request.path}", 404


@app.route("/broken")
def broken() -> Any:
    logging.getLogger(__name__).warning("about to break")
    raise LookupError("a broken view")


@app.before_request
def count() -> None:
    g.seen = getattr(g, "seen", 0) + 1


@app.route("/seen")
def seen() -> Any:
    return {"seen": g.seen}
