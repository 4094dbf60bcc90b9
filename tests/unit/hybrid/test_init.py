"""`hybrid init`: what is found in a directory, and the file that is written for it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.rows import for_each

from hybrid.cli.commands import main
from hybrid.cli.modes import Modes
from hybrid.config.declaring import declared
from hybrid.config.file import read
from hybrid.config.service import Service
from hybrid.init import choosing, searching, writing
from hybrid.init.candidates import Form, UnreadableError, candidates_in, parse
from hybrid.init.drafts import Draft, Line, ServiceDraft

OPTIONS = (*declared(Service), *declared(Modes))
Answer = tuple[int, str, str]


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Make files: their paths and contents."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main(["init", *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


def written(directory: Path) -> dict[str, Any]:
    read(directory / "hybrid.toml", OPTIONS)  # raises if hybrid would not accept it
    return tomllib.loads((directory / "hybrid.toml").read_text())


# --- candidates of a module


def found(source: str) -> list[tuple[str, Form, str]]:
    return [(one.name, one.form, one.kind) for one in candidates_in(parse(source.encode()))]


MATCHED = "from fastapi import FastAPI\nwith a:\n    match b:\n        case 1:\n            app = FastAPI()"
DJANGO = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()"


@for_each(
    ("source", "name", "kind"),
    [
        ("from flask import Flask\napp = Flask(__name__)", "app", "Flask"),
        ("import flask\nsite = flask.Flask(__name__)", "site", "Flask"),
        ("import flask as f\nsite = f.Flask(__name__)", "site", "Flask"),
        ("from fastapi import FastAPI as API\napp: API = API()", "app", "FastAPI"),
        ("from starlette.applications import Starlette\napp = Starlette(routes=[])", "app", "Starlette"),
        ("import starlette.applications\napp = starlette.applications.Starlette()", "app", "Starlette"),
        ("from quart import Quart\nif True:\n    app = Quart(__name__)", "app", "Quart"),
        ("from litestar import Litestar\ntry:\n    app = Litestar([])\nexcept E:\n    pass", "app", "Litestar"),
        ("from fastapi import FastAPI\nclass API(FastAPI): pass\napp = API()", "app", "FastAPI"),
        (DJANGO, "application", "Django"),
        (MATCHED, "app", "FastAPI"),
    ],
)
def test_an_application_of_a_framework_is_found(source: str, name: str, kind: str) -> None:
    assert found(source) == [(name, Form.APPLICATION, kind)]


@for_each(
    "source",
    [
        "app = Flask(__name__)  # not imported",
        "from flask import Flask\ndef f():\n    app = Flask(__name__)",
        "from flask import Flask\nif __name__ == '__main__':\n    app = Flask(__name__)",
        "from flask import Flask\nclass A:\n    app = Flask(__name__)",
        "def create_app(config): ...",
        "def create_app(*, config): ...",
        "async def create_app(): ...",
        "def handle(a, b): ...",
        "def _serve(sock, address): ...",
        "async def f(reader, writer, more): ...",
        "async def f(sock, address): ...",
        "class H:\n    def handle(sock, address): ...",
    ],
)
def test_code_that_hybrid_cannot_serve_is_not_found(source: str) -> None:
    assert found(source) == []


@for_each(
    ("source", "expected"),
    [
        ("def create_app(config=None): ...", ("create_app", Form.FACTORY, "application")),
        (
            "def make_app():\n    from flask import Flask\n    return Flask('x')",
            ("make_app", Form.FACTORY, "Flask"),
        ),
        ("async def app(scope, receive, send): ...", ("app", Form.PLAIN, "ASGI")),
        ("def app(environ, start_response): ...", ("app", Form.PLAIN, "WSGI")),
        ("async def handle(reader, writer): ...", ("handle", Form.HANDLER, "async stream handler")),
        ("def echo(sock, address): ...", ("echo", Form.HANDLER, "sync stream handler")),
        ("def echo(conn, addr, size=3): ...", ("echo", Form.HANDLER, "sync stream handler")),
    ],
)
def test_a_function_is_known_by_its_parameters(source: str, expected: tuple[str, Form, str]) -> None:
    assert found(source) == [expected]


def test_a_source_that_cannot_be_parsed_says_where() -> None:
    with pytest.raises(UnreadableError, match="line 2: "):
        parse(b"a = 1\ndef (\n")


def test_a_deeply_nested_source_is_unreadable_and_no_crash() -> None:
    with pytest.raises(UnreadableError):
        parse(b"(" * 100_000)


# --- the search

FLASK = "from flask import Flask\napp = Flask(__name__)\n"


@pytest.mark.parametrize(
    ("files", "target", "chdir"),
    [
        ({"shop.py": FLASK}, "shop:app", ""),
        ({"shop/__init__.py": FLASK}, "shop:app", ""),
        ({"shop/__init__.py": "", "shop/web.py": FLASK}, "shop.web:app", ""),
        ({"src/shop/__init__.py": "", "src/shop/web.py": FLASK}, "shop.web:app", "src"),
        ({"src/web.py": FLASK}, "web:app", "src"),
        ({"app/main.py": FLASK}, "app.main:app", ""),
        ({"app/main.py": "import models\n" + FLASK, "app/models.py": ""}, "main:app", "app"),
        ({"app/main.py": "from app import models\n" + FLASK, "app/models.py": ""}, "app.main:app", ""),
    ],
)
def test_a_module_is_named_as_it_is_imported(
    project: Callable[..., Path], files: dict[str, str], target: str, chdir: str
) -> None:
    best = searching.search(project(files)).found[0]
    assert (best.target, best.chdir) == (target, chdir)


def test_the_best_candidate_comes_first(project: Callable[..., Path]) -> None:
    files = {
        "a/deep.py": FLASK,
        "handler.py": "def handle(sock, address): ...",
        "other.py": FLASK.replace("app", "site"),
        "main.py": FLASK.replace("app", "site") + FLASK + "def create_app(): ...",
    }
    targets = [one.target for one in searching.search(project(files)).found]
    assert targets == [
        *("main:app", "main:site", "other:site", "a.deep:app"),
        *("main:create_app", "handler:handle"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        *(".hidden/x.py", "venv/x.py", "mine/x.py", "node_modules/x.py", "tests/x.py", "a/b/c/d/x.py"),
        *("test_x.py", "conftest.py", "setup.py", ".x.py", "x.txt", "not-a-name/x.py"),
    ],
)
def test_files_that_are_not_the_projects_own_code_are_skipped(project: Callable[..., Path], name: str) -> None:
    assert searching.search(project({name: FLASK, "mine/pyvenv.cfg": ""})).found == ()


def test_a_pipe_is_not_opened(project: Callable[..., Path]) -> None:
    directory = project({"manage.py": MANAGE, "shop/__init__.py": ""})
    os.mkfifo(directory / "x.py")
    os.mkfifo(directory / "shop/settings.py")
    assert searching.search(directory).found == ()


def test_links_are_not_followed(project: Callable[..., Path]) -> None:
    directory = project({"a/x.py": FLASK})
    (directory / "b").symlink_to(directory / "a")
    assert [one.target for one in searching.search(directory).found] == ["a.x:app"]


def test_the_number_of_files_is_bounded_and_that_is_told(project: Callable[..., Path]) -> None:
    findings = searching.search(project({f"m{n}.py": "" for n in range(searching.MAX_FILES + 5)}))
    assert findings.is_cut


def test_files_that_cannot_be_read_are_told(project: Callable[..., Path]) -> None:
    deep = f"a = x{'.b' * 20_000}()"
    findings = searching.search(
        project({"bad.py": "def (", "deep.py": deep, "huge.py": "#" * (searching.MAX_SIZE + 1)})
    )
    assert [text.partition(":")[0] for text in findings.unreadable] == ["bad.py", "deep.py", "huge.py"]


MANAGE = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'
ASGI = "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"


@pytest.mark.parametrize(
    ("files", "target"),
    [
        ({"shop/settings.py": 'WSGI_APPLICATION = "shop.wsgi.application"'}, "shop.wsgi:application"),
        (
            {"shop/settings.py": 'WSGI_APPLICATION = "shop.wsgi.application"\nASGI_APPLICATION = "shop.asgi.app"'},
            "shop.asgi:app",
        ),
        ({"shop/settings/base.py": 'WSGI_APPLICATION = "shop.wsgi.application"'}, "shop.wsgi:application"),
        ({"shop/settings.py": "", "shop/wsgi.py": ""}, "shop.wsgi:application"),
        ({"shop/settings.py": "", "shop/asgi.py": ASGI}, "shop.asgi:application"),
    ],
)
def test_a_django_project_is_found_by_its_settings(
    project: Callable[..., Path], files: dict[str, str], target: str
) -> None:
    best = searching.search(project({"manage.py": MANAGE, "shop/__init__.py": "", "web.py": FLASK, **files})).found[0]
    assert (best.target, best.kind) == (target, "Django")


def test_a_django_project_in_a_folder_is_imported_from_there(project: Callable[..., Path]) -> None:
    files = {"backend/manage.py": MANAGE, "backend/shop/settings.py": "", "backend/shop/wsgi.py": ""}
    best = searching.search(project(files)).found[0]
    assert (best.target, best.chdir) == ("shop.wsgi:application", "backend")


# --- the file

VALUES = ["plain", 'with "quotes" and \\', "new\nline", "\x7f\x01", "ä€😀", 3, 0.5, True, ("a", 'b"')]


@for_each("value", VALUES)
def test_a_value_is_read_back_as_it_was(value: Any) -> None:
    draft = Draft("x", (ServiceDraft("a.b", (Line("key", value, "a\ncomment"),)),))
    read_back = tomllib.loads(writing.render(draft))["service"]["a.b"]["key"]
    assert read_back == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize("lines", [(*writing.DEFAULTS, *choosing.FOR_WEB), choosing.FOR_STREAMS])
def test_each_suggestion_is_a_key_with_a_value_that_hybrid_accepts(tmp_path: Path, lines: tuple[Line, ...]) -> None:
    (tmp_path / "hybrid.toml").write_text("\n".join(writing.line(one).removeprefix("# ") for one in lines))
    assert read(tmp_path / "hybrid.toml", OPTIONS).defaults.keys() == {one.key for one in lines}


def test_the_best_candidate_is_written_and_the_others_are_comments(
    project: Callable[..., Path], init: Callable[..., Answer]
) -> None:
    directory = project({"shop.py": FLASK, "chat.py": "async def handle(reader, writer): ..."})
    code, out, err = init()
    assert (code, err) == (0, "")
    assert '[service.web]  target = "shop:app"  (Flask, shop.py:2)' in out
    assert "1 more candidate in its comments" in out
    assert written(directory)["service"] == {"web": {"target": "shop:app"}}
    assert '#     target = "chat:handle"' in (directory / "hybrid.toml").read_text()


def test_a_factory_in_a_folder_is_written_with_its_options(
    project: Callable[..., Path], init: Callable[..., Answer]
) -> None:
    directory = project({"src/shop.py": "def create_app(): ..."})
    assert init()[0] == 0
    service = {"target": "shop:create_app", "factory": True, "chdir": "src"}
    assert written(directory)["service"] == {"web": service}


def test_without_a_candidate_a_sample_is_written(tmp_path: Path, init: Callable[..., Answer]) -> None:
    code, out, _ = init()
    assert code == 0
    assert "no application was found here" in out
    assert written(tmp_path).keys() == {"profile"}


def test_the_sample_is_accepted_once_its_comments_are_removed(tmp_path: Path, init: Callable[..., Answer]) -> None:
    init()
    file = tmp_path / "hybrid.toml"
    begin = file.read_text().partition("# [service.web]")
    file.write_text(f"[service.web]{begin[2]}".replace("\n# ", "\n"))
    assert written(tmp_path)["service"]["web"]["target"] == "myapp:app"


def test_a_file_is_replaced_only_with_force(tmp_path: Path, init: Callable[..., Answer]) -> None:
    (tmp_path / "hybrid.toml").write_text("workers = 3\n")
    code, out, err = init()
    assert (code, out) == (2, "")
    assert "hybrid.toml exists: edit it, or write it anew with --force" in err
    assert (tmp_path / "hybrid.toml").read_text() == "workers = 3\n"
    assert init("--force")[0] == 0
    assert "workers = 3" not in (tmp_path / "hybrid.toml").read_text()


def test_a_section_of_pyproject_is_not_hidden(tmp_path: Path, init: Callable[..., Answer]) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hybrid]\nworkers = 3\n")
    code, _, err = init()
    assert code == 2
    assert "pyproject.toml has [tool.hybrid]" in err
    assert not (tmp_path / "hybrid.toml").exists()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        writing.write(tmp_path / "gone" / "hybrid.toml", "", force=True)
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        writing.write(tmp_path / "link", "", force=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["link"]
