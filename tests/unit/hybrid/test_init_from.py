"""`hybrid init --from`: the settings of other servers as a `hybrid.toml`, and remarks about the rest."""

from __future__ import annotations

import re
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
from hybrid.init.candidates import UnreadableError
from hybrid.init.command_lines import Command, CommandError, read_command
from hybrid.init.equivalents import OTHERWISE, SAME
from hybrid.init.gunicorn_file import HOOKS, read_settings
from hybrid.init.servers import SERVERS
from hybrid.init.sources import SourceError, draft_from
from hybrid.init.translating import translate
from hybrid.init.translation import Translated
from hybrid.init.writing import render

OPTIONS = (*declared(Service), *declared(Modes))
ROOT = Path(__file__).resolve().parents[3]


def translated(line: str) -> Translated:
    command = read_command(line)
    assert command is not None
    return translate(command, "web")


def keys(line: str) -> dict[str, Any]:
    """Return the keys that a command line becomes, without suggestions."""
    return {one.key: one.value for one in translated(line).service.lines if not one.is_comment}


def remarks(line: str) -> str:
    return "\n".join(translated(line).remarks)


@for_each(
    ("line", "expected"),
    [
        ("gunicorn shop.wsgi", {"target": "shop.wsgi:application"}),
        ("gunicorn shop:app -w 4 -b :80", {"target": "shop:app", "workers": 4, "bind": "0.0.0.0:80"}),
        ("gunicorn -w4 --bind=unix:/run/x shop:app", {"target": "shop:app", "workers": 4, "bind": "unix:/run/x"}),
        ("gunicorn -b a:1 -b b:2 s:a", {"target": "s:a", "bind": ("a:1", "b:2")}),
        ("gunicorn -b a:1,b:2 s:a", {"target": "s:a", "bind": ("a:1", "b:2")}),
        ("gunicorn 'shop:create_app()'", {"target": "shop:create_app", "factory": True}),
        ("gunicorn -k gevent --worker-connections 9 s:a", {"target": "s:a", "loop": "gevent", "max_connections": 9}),
        ("gunicorn -k gthread --threads 4 s:a", {"target": "s:a", "threads": 4}),
        ("gunicorn --threads 1 s:a", {"target": "s:a"}),
        ("gunicorn -t 120 --keep-alive 5 s:a", {"target": "s:a", "stall_timeout": 120, "keep_alive_timeout": 5}),
        (
            "gunicorn --max-requests 1000 --max-requests-jitter 50 s:a",
            {"target": "s:a", "max_requests": 1000, "recycle_jitter": 0.05},
        ),
        ("gunicorn --access-logfile - s:a", {"target": "s:a", "access_log": "combined"}),
        (
            "gunicorn --access-logfile /x --error-logfile /y --capture-output s:a",
            {
                "target": "s:a",
                "access_log": "combined",
                "access_log_file": "/x",
                "log_file": "/y",
                "log_capture": True,
            },
        ),
        (
            "gunicorn --access-logfile - --access-logformat '%(h)s' s:a",
            {"target": "s:a", "access_log": "%(h)s"},
        ),
        ("gunicorn --access-logformat '%(h)s' s:a", {"target": "s:a"}),
        ("gunicorn --log-level critical s:a", {"target": "s:a", "log_level": "error"}),
        (
            "gunicorn --forwarded-allow-ips '10.0.0.1, *' s:a",
            {"target": "s:a", "forwarded_allow_ips": ("10.0.0.1", "*")},
        ),
        ("gunicorn --header-map dangerous s:a", {"target": "s:a", "underscore_headers": True}),
        ("gunicorn --proxy-protocol s:a", {"target": "s:a", "proxy_protocol": True}),
        ("gunicorn --websocket-max-message-size 9 s:a", {"target": "s:a", "websocket_max_size": 9}),
        ("python3 -m gunicorn s:a", {"target": "s:a"}),
        ("exec poetry run gunicorn s:a", {"target": "s:a"}),
        ("/venv/bin/gunicorn s:a", {"target": "s:a"}),
        ("uvicorn s:a --host 0.0.0.0 --port 80", {"target": "s:a", "bind": "0.0.0.0:80"}),
        ("uvicorn s:a --host ::1", {"target": "s:a", "bind": "[::1]:8000"}),
        ("uvicorn s:a --port 80", {"target": "s:a", "bind": "127.0.0.1:80"}),
        ("uvicorn s:a --uds /run/x", {"target": "s:a", "bind": "unix:/run/x"}),
        ("uvicorn s:a --factory --no-server-header", {"target": "s:a", "factory": True, "server_header": False}),
        ("uvicorn s:a --server-header", {"target": "s:a", "server_header": True}),
        ("uvicorn s:a --loop uvloop --lifespan off", {"target": "s:a", "loop": "uvloop", "lifespan": "off"}),
        ("uvicorn s:a --loop auto --ws auto --http auto", {"target": "s:a"}),
        ("uvicorn s:a --ws-per-message-deflate false", {"target": "s:a", "websocket_compression": False}),
        ("uvicorn s:a --env-file .env", {"target": "s:a", "env_file": (".env",)}),
        ("uvicorn s:a --root-path /shop/", {"target": "s:a", "root_path": "/shop"}),
        ("uvicorn s:a --interface asgi3 --app-dir src", {"target": "s:a", "interface": "asgi", "chdir": "src"}),
        ("hypercorn s -b localhost", {"target": "s:app", "bind": "localhost:8000"}),
        ("hypercorn wsgi:s:a -k uvloop", {"target": "s:a", "interface": "wsgi", "loop": "uvloop"}),
        ("granian --interface asginl s:a", {"target": "s:a", "interface": "asgi", "lifespan": "off"}),
        ("granian --interface wsgi --blocking-threads 3 s:a", {"target": "s:a", "interface": "wsgi", "threads": 3}),
        ("granian --workers-max-rss 300 s:a", {"target": "s:a", "max_memory": "300M"}),
        ("granian --http1-header-read-timeout 5000 s:a", {"target": "s:a", "header_timeout": "5000ms"}),
        ("granian --workers-lifetime 2h s:a", {"target": "s:a", "max_lifetime": "2h"}),
        ("granian --uds /x --uds-permissions 660 s:a", {"target": "s:a", "bind": "unix:/x", "unix_mode": "660"}),
        ("uvicorn s:a --port $PORT --host 0.0.0.0", {"target": "s:a"}),
        ("gunicorn s:a -b 0.0.0.0:${PORT:-80} -w $WEB_CONCURRENCY", {"target": "s:a"}),
    ],
)
def test_a_command_line_becomes_keys(line: str, expected: dict[str, Any]) -> None:
    assert keys(line) == expected


@for_each(
    ("line", "part"),
    [
        ("gunicorn --daemon s:a", "--daemon: let a service manager start it"),
        ("gunicorn --umask 7 s:a", '--umask: set the mode of UNIX sockets, unix_mode = "660"'),
        ("gunicorn -e A=1 s:a", 'write A to an env file, and set env_file = ".env"'),
        ("A=hunter2 gunicorn s:a", "A=...: write it to an env file"),
        ("gunicorn -k tornado s:a", "tornado has no equivalent"),
        ("gunicorn -k uvicorn.workers.UvicornWorker s:a", "ASGI applications are recognised"),
        ("gunicorn --spew s:a", "--spew: hybrid has no equivalent"),
        ("gunicorn --nonsense s:a", "--nonsense: not an option of gunicorn"),
        ("gunicorn --threads $N s:a", "comes from the variable N: set HYBRID_THREADS instead"),
        ("gunicorn 'shop:create_app(\"x\")'", 'called without arguments: write one that passes "x"'),
        ("gunicorn s:a other", "other: not translated"),
        ("gunicorn", 'no application is named: replace target = "myapp:app"'),
        ("gunicorn --workers 9999 s:a", "workers: left out: 9999: use 'auto' or a number"),
        ("gunicorn --keyfile k s:a", "keyfile: left out: TLS needs a certificate"),
        ("gunicorn --threads 2 -k gevent s:a", "threads: left out: 2: requests run in greenlets"),
        ("uvicorn s:a --ssl-keyfile-password hunter2", "set HYBRID_KEYFILE_PASSWORD"),
        ("uvicorn s:a --reload", "hybrid run --profile dev"),
        ("uvicorn s:a --proxy-headers", "name the proxies: forwarded_allow_ips"),
        ("uvicorn s:a --ws wsproto", "hybrid has one WebSocket implementation"),
        ("uvicorn s:a --interface asgi2", "asgi2 is not supported"),
        ("hypercorn s:a --user 3", "the owner of UNIX sockets"),
        ("hypercorn s:a --config h.toml", "h.toml is not read: write its settings as keys"),
        ("hypercorn s:a --quic-bind :443", "let a proxy in front speak HTTP/3"),
        ("granian --interface rsgi s:a", "rsgi is not supported"),
        ("granian --loop rloop s:a", "hybrid has no loop rloop"),
    ],
)
def test_an_option_without_an_equivalent_is_remarked_on(line: str, part: str) -> None:
    assert part in remarks(line)
    assert "hunter2" not in remarks(line)
    assert "hunter2" not in repr(keys(line))


@pytest.mark.parametrize("server", SERVERS.values(), ids=lambda server: server.name)
def test_each_option_of_a_server_is_translated_or_remarked_on(server: Any) -> None:
    """Whatever it is, the service can be made."""
    for flag in sorted(server.takes_value | server.flags):
        line = f"{server.name} {flag} {'1 ' if flag in server.takes_value else ''}s:a"
        assert keys(line)["target"] == "s:a"
    for name, flag in server.short.items():
        assert flag in server.takes_value | server.flags, name


def test_each_equivalent_is_an_option_of_a_server() -> None:
    known = {name for server in SERVERS.values() for name in (*server.takes_value, *server.flags, *server.short)}
    assert {*SAME, *OTHERWISE} - known == {"--headers", "--access-log-format"}  # slips that people type


def test_defaults_that_differ_are_suggested() -> None:
    lines = [one for one in translated("uvicorn s:a").service.lines if one.is_comment]
    assert [one.key for one in lines] == ["workers", "forwarded_allow_ips", "access_log"]
    assert lines[0].comment == "uvicorn's default; without this line: one per usable core"


@for_each("line", ["", "A=1", "caddy run", "python app.py", "hybrid run s:a"])
def test_a_command_of_another_program_is_none(line: str) -> None:
    assert read_command(line) is None


@pytest.mark.parametrize("line", ["gunicorn 'open", "gunicorn --workers"])
def test_a_command_that_is_cut_off_is_an_error(line: str) -> None:
    with pytest.raises(CommandError):
        read_command(line)


# --- gunicorn.conf.py


def settings(source: str) -> tuple[dict[str, Any], list[str]]:
    """Return the keys and remarks for the source of a `gunicorn.conf.py`."""
    found = read_settings(source.encode())
    one = translate(Command(SERVERS["gunicorn"], found.options, (found.target or "s:a",)), "web")
    return {line.key: line.value for line in one.service.lines if not line.is_comment}, [*one.remarks, *found.remarks]


@for_each(
    ("source", "expected"),
    [
        ("workers = 4", {"workers": 4}),
        ("workers: int = 2 * 2", {"workers": 4}),
        ("import multiprocessing\nworkers = multiprocessing.cpu_count() * 2 + 1", {"workers": "auto"}),
        ("from os import cpu_count as n\nworkers = min(n() or 1, 8)", {"workers": "auto"}),
        ("import os\nworkers = len(os.sched_getaffinity(0))", {"workers": "auto"}),
        ("import os\nworkers = int(os.environ.get('WEB_CONCURRENCY', 3))", {}),
        ("import os\nthreads = int(os.environ.get('THREADS', '3'))", {"threads": 3}),
        ("import os\nthreads = int(os.getenv('THREADS') or 3)", {"threads": 3}),
        ("port = 80\nbind = f'0.0.0.0:{port}'", {"bind": "0.0.0.0:80"}),
        ("bind = ['a:1', 'b:' + str(2)]", {"bind": ("a:1", "b:2")}),
        ("import os\nbind = '0.0.0.0:' + os.environ.get('PORT', '80')", {}),
        ("timeout = 30\ntimeout = 60", {"stall_timeout": 60}),
        ("graceful_timeout = 30 / 4", {"graceful_timeout": 7.5}),
        ("accesslog = '-'\naccess_log_format = '%(h)s'", {"access_log": "%(h)s"}),
        ("accesslog = None", {}),
        ("reload = False\npreload_app = False\ndaemon = False", {}),
        (
            "import ssl\ncertfile = 'c'\nca_certs = 'a'\ncert_reqs = ssl.CERT_OPTIONAL",
            {"certfile": "c", "ca_certs": "a", "client_certificate": "optional"},
        ),
        ("proc_name = 'shop'\nworker_class = 'gevent'", {"loop": "gevent"}),
        ("something = 3\n_other = object()", {}),
    ],
)
def test_assignments_become_keys(source: str, expected: dict[str, Any]) -> None:
    assert settings(source)[0] == {"target": "s:a", **expected}


def test_the_application_may_be_named_in_the_file() -> None:
    assert read_settings(b"wsgi_app = 'shop:app'").target == "shop:app"


@for_each(
    ("source", "remark"),
    [
        ("x = 1\nworkers = compute()", "not understood: line 2: workers = compute()"),
        ("bind = 'a' * 10 ** 9", "not understood: line 1"),
        ("bind = 'a' * 1000000000", "not understood: line 1"),
        ("workers = 99999999999 * 99999999999", "not understood: line 1"),
        ("workers = 1 // 0", "not understood: line 1"),
        ("import os\nbind = os.environ['BIND']", "not understood: line 2"),
        ("if True:\n    workers = 3", "not understood: line 1"),
        ("for i in ():\n    pass", "not understood: line 1"),
        (
            "import os\nthreads = int(os.getenv('N', 3))",
            "threads (line 2): comes from the variable N: set HYBRID_THREADS",
        ),
        ("statsd_host = 'x'", "statsd_host (line 1): hybrid has no statsd client"),
        ("secure_scheme_headers = {'A': 'b'}", "secure_scheme_headers (line 1): leave it out"),
        ("raw_env = ['A=hunter2', 'B=2']", "raw_env (line 1): write A, B to an env file"),
        ("\ndef post_fork(server, worker): ...", 'post_fork (line 2): the hook after_fork: hooks = "MODULE"'),
        ("on_exit = lambda server: None", 'on_exit (line 1): the event stop: on_event = "PROGRAM"'),
    ],
)
def test_the_rest_is_listed_with_its_line(source: str, remark: str) -> None:
    _, found = settings(source)
    assert any(text.startswith(remark) for text in found), found
    assert "hunter2" not in repr(found)


def test_an_expression_that_is_nested_too_deeply_is_an_error_and_no_crash() -> None:
    with pytest.raises(UnreadableError):
        read_settings(b"workers = " + b"1 + " * 20_000 + b"1")


def test_each_hook_of_the_manual_has_a_counterpart() -> None:
    text = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    table = text[text.index("| gunicorn | hybrid |") :].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == HOOKS.keys()


# --- sources


def drafted(directory: Path, source: str) -> tuple[dict[str, Any], str]:
    """Return the services that are written, and the remarks."""
    draft = draft_from(source, directory)
    return tomllib.loads(render(draft))["service"], "\n".join(draft.remarks)


PROCFILE = """\
# of a platform
web: gunicorn shop.wsgi -b 0.0.0.0:$PORT --workers 3
worker: celery -A shop worker
clock: python clock.py && echo "done $X"
mail: QUEUE=mail python mail.py
release: python manage.py migrate
nonsense
"""


def test_each_process_type_of_a_procfile_is_a_service(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(PROCFILE)
    services, found = drafted(tmp_path, "Procfile")
    assert services == {
        "web": {"target": "shop.wsgi:application", "workers": 3},
        "worker": {"command": ["celery", "-A", "shop", "worker"]},
        "clock": {"command": ["sh", "-c", 'python clock.py && echo "done $X"']},
        "mail": {"command": ["sh", "-c", "exec QUEUE=mail python mail.py"]},
    }
    assert "release (line 6): runs once before a start" in found
    assert "not understood: line 7" in found


def test_two_process_types_of_one_name_are_one_service_and_a_remark(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: uvicorn a:b\nweb: uvicorn c:d\n")
    services, found = drafted(tmp_path, "Procfile")
    assert services == {"web": {"target": "a:b"}}
    assert "web: there are two services of that name" in found


def test_a_command_of_gunicorn_overrides_its_file(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\ntimeout = 9\nwsgi_app = 'x:y'\n")
    (tmp_path / "other.py").write_text("threads = 5\n")
    assert drafted(tmp_path, "gunicorn -w 4 s:a")[0] == {"web": {"target": "s:a", "stall_timeout": 9, "workers": 4}}
    assert drafted(tmp_path, "gunicorn.conf.py")[0] == {"web": {"target": "x:y", "workers": 3, "stall_timeout": 9}}
    assert drafted(tmp_path, "gunicorn -c other.py s:a")[0] == {"web": {"target": "s:a", "threads": 5}}
    (tmp_path / "Procfile").write_text("site: gunicorn -c other.py s:a\n")
    assert drafted(tmp_path, "Procfile")[0] == {"site": {"target": "s:a", "threads": 5}}


def test_an_application_that_nothing_names_is_searched_for(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\n")
    (tmp_path / "shop.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    services, found = drafted(tmp_path, "gunicorn.conf.py")
    assert services["web"]["target"] == "shop:app"
    assert "no application is named: shop:app was found here, check it" in found


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("gone.py", "there is no file gone.py"),
        ("Procfile.dev", "there is no file Procfile.dev"),
        ("caddy run", "is no file, and no command line that hybrid knows: write a command line of gunicorn, uvicorn"),
        ("notes.txt", "notes.txt is neither a Procfile nor a configuration file of gunicorn"),
        ("bad.py", "bad.py cannot be read: line 1: "),
        ("empty/Procfile", "there is no process type in it"),
        ("gunicorn -c gone.py s:a", "there is no file gone.py, which -c names"),
        ("gunicorn 'open", "no closing quotation"),
        ("", "'' is no file"),
    ],
)
def test_a_source_that_cannot_be_translated_says_why(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.py").write_text("def (")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/Procfile").write_text("# nothing\n")
    with pytest.raises(SourceError, match=re.escape(reason)):
        draft_from(source, tmp_path)


@pytest.fixture
def init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["init", *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


Init = Callable[..., tuple[int, str, str]]


def test_the_file_that_is_written_is_accepted(tmp_path: Path, init: Init) -> None:
    line = "uvicorn shop:app --host 0.0.0.0 --workers 4 --timeout-keep-alive 7 --daemonize"
    code, out, err = init("--from", line)
    assert (code, err) == (0, "")
    assert "no equivalent, and what to do instead:\n  --daemonize: not an option of uvicorn" in out
    document = read(tmp_path / "hybrid.toml", OPTIONS)
    assert document.services["web"]["keep_alive_timeout"].value == 7


def test_a_command_is_not_repeated_in_the_file(tmp_path: Path, init: Init) -> None:
    assert init("--from", "SECRET=hunter2 uvicorn shop:app --ssl-keyfile-password hunter2")[0] == 0
    assert "hunter2" not in (tmp_path / "hybrid.toml").read_text()


def test_an_unknown_source_is_an_error_and_nothing_is_written(tmp_path: Path, init: Init) -> None:
    code, out, err = init("--from", "nginx.conf")
    assert (code, out) == (2, "")
    assert err.startswith("hybrid: error: --from: 'nginx.conf' is no file")
    assert list(tmp_path.iterdir()) == []
