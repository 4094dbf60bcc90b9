"""Where the values of a run come from, as `hybrid config` tells."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import OUR_VARIABLES

from hybrid.cli.commands import main
from hybrid.cli.modes import Modes
from hybrid.config.declaring import Option, declared
from hybrid.config.kinds import Choice, Number, Switch
from hybrid.config.service import Service

SHOP = """\
workers = 2
log_level = "warning"

[service.web]
target = "shop:app"
log_level = "error"

[service.chat-1]
target = "chat:handle"

[profile.dev]
log_level = "debug"
"""
KEYS = [one for one in (*declared(Service), *declared(Modes)) if one.key is not None]
OTHER = {
    "request_id_header": "X-Request-ID",
    "label_header": "X-Route",
    "bind": "127.0.0.1:1",
    "workers": "77",
    "offload_workers": "3",
    "offload_to": "tcp://scheduler:8786",
    "loop": "select",
    "name": "other",
    "unix_mode": "666",
    "pidfile": "/x.pid",
    "chdir": "/",
    "env_file": "/dev/null",
    "user": "daemon",
    "group": "daemon",
    "admin": "127.0.0.1:9",
    "admin_token": "hunter2hunter2hunter2",
    "otel_endpoint": "http://127.0.0.1:4318",
    "root_path": "/shop",
    "max_restarts": "5/10",
    "access_log": "json",
    "forwarded_allow_ips": "10.0.0.1",
    "reload_dir": "/",
    "reload_include": "*.html",
    "reload_exclude": "build",
    "sni_hook": "shop:choose",
    "stop_signal": "INT",
    "hooks": "shop.hooks",
    "companions": "mailer=shop.mail:run*2",
    "offload_pools": "ml=2,timeout=30s",
    "depends": "db",
}  # field -> a text that means another value than the default, where the kind alone does not tell one

Answer = tuple[int, str, str]


@pytest.fixture
def hybrid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run the command in this process, in an empty directory, without variables of ours."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(OUR_VARIABLES)]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


def shown(answer: Answer) -> dict[str, Any]:
    code, out, err = answer
    assert (code, err) == (0, "")
    values: dict[str, Any] = json.loads(out)["values"]
    return values


def origin(answer: Answer, key: str) -> tuple[Any, str]:
    row = shown(answer)[key]
    return row["value"], row["origin"]


def text_of(one: Option) -> str | None:
    """Return a text that means another value than the default; None: the flag alone does."""
    match one.kind:
        case Switch():
            return None
        case Choice(words=words):
            return next(word for word in words if word != one.default)
        case Number():
            return "2" if one.default != 2 else "3"
    return OTHER.get(one.field, "/etc/hostname")


@pytest.mark.parametrize("one", KEYS, ids=lambda one: str(one.key))
def test_each_option_is_set_by_flag_variable_and_file(
    one: Option, hybrid: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text, key = text_of(one), str(one.key)
    if text is None:
        flag = one.flag if not one.default else f"--no-{one.flag.removeprefix('--')}"
        by_flag = shown(hybrid("config", "--json", flag))[key]
    else:
        by_flag = shown(hybrid("config", "--json", f"{one.flag}={text}"))[key]
    assert by_flag["origin"] == one.flag
    assert by_flag["value"] != shown(hybrid("config", "--json"))[key]["value"]
    word = text if text is not None else str(not one.default).lower()
    with monkeypatch.context() as environment:
        environment.setenv(one.variables[0], word)
        assert shown(hybrid("config", "--json"))[key] == {"value": by_flag["value"], "origin": one.variables[0]}
    number = isinstance(one.kind, Switch | Number)
    (tmp_path / "hybrid.toml").write_text(f"{key} = {word if number else json.dumps(word)}\n")
    assert shown(hybrid("config", "--json"))[key] == {"value": by_flag["value"], "origin": "hybrid.toml:1"}


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["web"], {}, ("error", "hybrid.toml:6")),
        (["chat-1"], {}, ("warning", "hybrid.toml:2")),
        (["web", "--profile", "dev"], {}, ("debug", "hybrid.toml:12")),
        (["web"], {"HYBRID_PROFILE": "dev"}, ("debug", "hybrid.toml:12")),
        (["web", "--profile", "dev"], {"HYBRID_LOG_LEVEL": "info"}, ("info", "HYBRID_LOG_LEVEL")),
        (
            ["web"],
            {"HYBRID_LOG_LEVEL": "info", "HYBRID_SERVICE_WEB_LOG_LEVEL": "debug"},
            ("debug", "HYBRID_SERVICE_WEB_LOG_LEVEL"),
        ),
        (["chat-1"], {"HYBRID_SERVICE_CHAT_1_LOG_LEVEL": "debug"}, ("debug", "HYBRID_SERVICE_CHAT_1_LOG_LEVEL")),
        (
            ["web", "--log-level", "info"],
            {"HYBRID_SERVICE_WEB_LOG_LEVEL": "debug"},
            ("info", "--log-level"),
        ),
        (["other:app"], {}, ("warning", "hybrid.toml:2")),
        (["web:app", "--config", "none"], {}, None),
    ],
)
def test_the_stronger_word_wins(
    hybrid: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    expected: tuple[str, str] | None,
) -> None:
    (tmp_path / "hybrid.toml").write_text(SHOP)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    answer = hybrid("config", "--json", *arguments)
    assert origin(answer, "log_level") == (expected or ("info", "default"))


def test_a_platforms_variable_is_stronger_than_the_file(
    hybrid: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hybrid.toml").write_text(SHOP)
    monkeypatch.setenv("WEB_CONCURRENCY", "9")
    assert origin(hybrid("config", "--json", "web"), "workers") == (9, "WEB_CONCURRENCY")


def test_a_service_has_the_name_that_the_file_gives_it(hybrid: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text(SHOP)
    answer = hybrid("config", "--json", "chat-1")
    assert json.loads(answer[1])["service"] == "chat-1"
    assert origin(answer, "target") == ("chat:handle", "hybrid.toml:9")


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        (SHOP, ["web", "a:b"], "'a:b' is a target: give it alone, or names of services of a file"),
        (SHOP, ["--bind", ":1"], "--bind is for one service, and these would run: web, chat-1; name one"),
        ('[service.a]\ncommand = "true"\nbind = ":1"\n', [], "service a is a program, for which nothing is opened"),
        (SHOP, ["shop"], "'shop' is no target, which is written module:attribute, and no service of hybrid.toml"),
        (SHOP, ["web", "--profile", "prod"], "there is no profile 'prod'; known: dev"),
        ("[service.web]\nworkers = 2\n", [], 'service web has no target: write target = "module:attribute"'),
        ("workers = 0\n", ["a:b"], "hybrid.toml:1:1: workers: 0: use 'auto'"),
    ],
)
def test_what_cannot_be_run_is_answered_in_one_line(
    hybrid: Callable[..., Answer], tmp_path: Path, text: str, arguments: list[str], reason: str
) -> None:
    (tmp_path / "hybrid.toml").write_text(text)
    for command in ("run", "config"):
        code, out, err = hybrid(command, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("hybrid: error: ")
        assert reason in err.splitlines()[0]


@pytest.mark.parametrize("flag", ["--config", "--profile"])
def test_an_empty_name_is_an_error(hybrid: Callable[..., Answer], flag: str) -> None:
    for command in ("run", "config"):
        code, out, err = hybrid(command, f"{flag}=")
        assert (code, out) == (2, "")
        assert err.splitlines()[0] == f"hybrid: error: {flag}: give a text that is not empty"


def test_a_profile_without_a_file_is_an_error(hybrid: Callable[..., Answer]) -> None:
    code, _, err = hybrid("run", "--profile", "dev")
    assert code == 2
    assert "--profile dev: there is no hybrid.toml here" in err


def test_values_are_shown_as_the_file_would_have_them(hybrid: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text(SHOP)
    code, out, _ = hybrid("config", "web", "--keyfile-password", "hunter2", "--backoff", "250ms")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["workers", "=", "2", "#", "hybrid.toml:1"] in lines
    assert ["backoff", "=", '"250ms"', "#", "--backoff"] in lines
    assert ["keyfile_password", "=", '"***"', "#", "--keyfile-password"] in lines


def test_variables_of_an_env_file_set_options_and_are_shown_with_their_line(
    hybrid: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hybrid.toml").write_text('env_file = ".env"\n' + SHOP)
    (tmp_path / ".env").write_text(
        "HYBRID_WORKERS=5\nHYBRID_SERVICE_WEB_SURGE=2\nWEB_CONCURRENCY=7\nHYBRID_LOOP=poll\n"
    )
    monkeypatch.setenv("HYBRID_LOOP", "select")
    answer = hybrid("config", "--json", "web")
    assert origin(answer, "workers") == (5, "HYBRID_WORKERS in .env:1")
    assert origin(answer, "surge") == (2, "HYBRID_SERVICE_WEB_SURGE in .env:2")
    assert origin(answer, "loop") == ("select", "HYBRID_LOOP")


def test_a_flag_overrides_a_variable_of_an_env_file(hybrid: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "x").write_text("HYBRID_WORKERS=5\n")
    assert origin(hybrid("config", "--json", "--env-file", "x", "--workers", "6"), "workers") == (6, "--workers")


def test_an_empty_variable_of_the_environment_hides_that_of_an_env_file(
    hybrid: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x").write_text("HYBRID_SURGE=5\n")
    monkeypatch.setenv("HYBRID_SURGE", "")
    assert origin(hybrid("config", "--json", "--env-file", "x"), "surge") == (1, "default")


def test_the_env_file_of_a_service_replaces_that_of_the_top_level(
    hybrid: Callable[..., Answer], tmp_path: Path
) -> None:
    (tmp_path / "hybrid.toml").write_text('env_file = "top"\n[service.web]\ntarget = "a:b"\nenv_file = "own"\n')
    (tmp_path / "top").write_text("HYBRID_SURGE=2\nHYBRID_WORKERS=2\n")
    (tmp_path / "own").write_text("HYBRID_WORKERS=3\n")
    answer = hybrid("config", "--json", "web")
    assert origin(answer, "workers") == (3, "HYBRID_WORKERS in own:1")
    assert origin(answer, "surge") == (1, "default")


@pytest.mark.parametrize("name", ["HYBRID_CONFIG", "HYBRID_PROFILE", "HYBRID_ENV_FILE", "HYBRID_SERVICE_WEB_ENV_FILE"])
def test_an_env_file_cannot_say_which_files_are_read(hybrid: Callable[..., Answer], tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text(f"A=1\n{name}=y\n")
    code, out, err = hybrid("config", "--env-file", "x")
    assert (code, out) == (2, "")
    assert err.startswith(f"hybrid: error: {tmp_path}/x:2:1: {name} says which files are read")


def test_a_wrong_value_in_an_env_file_is_an_error(hybrid: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "x").write_text("HYBRID_WORKERS=many\nPORT=http\n")
    code, _, err = hybrid("config", "--env-file", "x")
    assert code == 2
    assert "many" in err
    (tmp_path / "x").write_text("PORT=http\n")
    code, _, err = hybrid("run", "--check", "--env-file", "x")
    assert code == 2
    assert "PORT='http' in x:1 is not a port" in err


def test_port_wins_over_the_address_that_a_file_gives_the_first_application(
    hybrid: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hybrid.toml").write_text(
        '[service.job]\ncommand = "true"\n'
        '[service.web]\ntarget = "a:b"\nbind = "127.0.0.1:1"\n'
        '[service.chat]\ntarget = "a:c"\nbind = "127.0.0.1:2"\n'
    )
    monkeypatch.setenv("PORT", "9000")
    answer = hybrid("config")
    assert answer[1].count("0.0.0.0:9000") == 1
    assert '"127.0.0.1:2"' in answer[1]
    assert origin(hybrid("config", "--json", "web"), "bind") == (["0.0.0.0:9000"], "PORT")
    monkeypatch.setenv("HYBRID_SERVICE_WEB_BIND", "127.0.0.1:3")
    assert origin(hybrid("config", "--json", "web"), "bind") == (["127.0.0.1:3"], "HYBRID_SERVICE_WEB_BIND")
