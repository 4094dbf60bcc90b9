"""`hybrid.toml`: what is read, and where a mistake stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.config.declaring import declared
from hybrid.config.file import Document, FileError, find, masked, read
from hybrid.config.restart_limit import RestartLimit
from hybrid.config.service import Service

OPTIONS = declared(Service)

SHOP = """\
# for every service
workers = 4
bind = [
    "127.0.0.1:8000",  # in front of nginx
    "unix:/run/shop.sock",
]

[service.web]
target = "shop:app"
graceful_timeout = "2m"
  certfile = "tls/cert.pem"
unix_mode = "660"
max_restarts = "5/10"

[service.chat]
target = "chat:handle"
workers = 2

[profile.dev]
workers = 1
"""


def write(directory: Path, text: str, name: str = "hybrid.toml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def parse(directory: Path, text: str) -> Document:
    return read(write(directory, text), OPTIONS)


def test_values_have_the_types_of_their_options(tmp_path: Path) -> None:
    document = parse(tmp_path, SHOP)
    assert document.defaults["bind"].value == ("127.0.0.1:8000", "unix:/run/shop.sock")
    web = {key: entry.value for key, entry in document.services["web"].items()}
    assert web == {
        "target": "shop:app",
        "graceful_timeout": 120.0,
        "certfile": str(tmp_path / "tls/cert.pem"),
        "unix_mode": 0o660,
        "max_restarts": RestartLimit(5, 10.0),
    }


def test_each_value_knows_where_it_stands(tmp_path: Path) -> None:
    document = parse(tmp_path, SHOP)
    places = [document.defaults["bind"].place, document.services["web"]["certfile"].place]
    assert [(place.line, place.column) for place in places] == [(3, 1), (11, 3)]


def test_a_profile_is_stronger_than_a_service_and_a_service_than_the_top_level(tmp_path: Path) -> None:
    document = parse(tmp_path, SHOP)
    layers = document.layers("chat", "dev")
    assert [layer["workers"].value for layer in layers] == [1, 2, 4]
    assert [layer["workers"].value for layer in document.layers(None, None)] == [4]


def test_a_profile_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no profile 'prod'; known: dev"):
        parse(tmp_path, SHOP).layers("web", "prod")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("workers = 4\nworkerz = 4\n", "2:1", "unknown key 'workerz': did you mean workers?"),
        ("graceful-timeout = 4\n", "1:1", "unknown key 'graceful-timeout': did you mean graceful_timeout?"),
        ('\n[services.web]\ntarget = "a:b"\n', "2:1", "unknown key 'services': did you mean service?"),
        ("workers = [1,\n", "1:14", "the file ends here"),
        ("a = 1\na = 2\n", "2:6", "Cannot overwrite a value"),
        ("workers = 2000\n", "1:1", "workers: 2000: use 'auto' or a number from 1 to 1024"),
        ("workers = true\n", "1:1", "workers: True: use 'auto'"),
        ("bind = 8000\n", "1:1", "bind: 8000: give addresses as text"),
        ('pin = "yes"\n', "1:1", "pin: 'yes': write true or false"),
        ('[service.web]\n\n  keep_alive_timeout = "soon"\n', "3:3", "keep_alive_timeout: 'soon' is not a duration"),
        ("[service.web]\ntarget = 3\n", "2:1", "target: 3: write a text"),
        ('[service.web]\ntarget = "app.py"\n', "2:1", "target 'app.py' names no attribute"),
        ('target = "shop:app"\n', "1:1", "target belongs to a service"),
        ("[service]\nweb = 3\n", "2:1", "service.web is a table"),
        ("service = 3\n", "1:1", "service is a table"),
        ('[service."a b"]\n', "1:1", "'a b': use up to 64 letters"),
        ('x = """\nworkers = 3\n"""\n', "1:1", "unknown key 'x'"),
        ("service.web.workers = 3000\n", "1:1", "workers: 3000"),
        ("[[service.web]]\nworkers = 3\n", "1:1", "service.web is a table"),
    ],
)
def test_a_mistake_is_an_error_with_line_and_column(tmp_path: Path, text: str, place: str, reason: str) -> None:
    with pytest.raises(FileError) as raised:
        parse(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/hybrid.toml:{place}: ")
    assert reason in str(raised.value)


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(FileError, match="no UTF-8 text"):
        read(tmp_path / "hybrid.toml", OPTIONS)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"hybrid\.toml: cannot be read: No such file"):
        read(tmp_path / "hybrid.toml", OPTIONS)


def test_hybrid_toml_is_found_before_a_table_of_pyproject(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    project = write(tmp_path, "[tool.other]\nx = 1\n", "pyproject.toml")
    assert find(tmp_path) is None
    project.write_text("[tool.hybrid]\nworkers = 3\n")
    assert find(tmp_path) == project
    assert read(project, OPTIONS).defaults["workers"].value == 3
    own = write(tmp_path, "")
    assert find(tmp_path) == own


def test_a_mistake_in_pyproject_has_its_line_there(tmp_path: Path) -> None:
    project = write(tmp_path, "[project]\nname = 'x'\n[tool.hybrid]\nworkers = 0\n", "pyproject.toml")
    with pytest.raises(FileError, match=r"pyproject\.toml:4:1: workers: 0"):
        read(project, OPTIONS)


def test_credentials_of_urls_are_masked() -> None:
    assert masked("see amqp://shop:hunter2@mq:5672/ here") == "see amqp://***@mq:5672/ here"
