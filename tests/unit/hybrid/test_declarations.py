"""Each option is declared once; flag, variable, key, help, reference and check follow from the declaration."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from support.rows import for_each

from hybrid import api
from hybrid.cli.commands import command, main, run
from hybrid.cli.flags import flag_of
from hybrid.cli.modes import Modes
from hybrid.cli.sections import SectionedCommand
from hybrid.config.checks import ConfigError
from hybrid.config.companions import Companion
from hybrid.config.declaring import Details, Option, Section, check_declared, declared, option
from hybrid.config.kinds import Choice, CommandLine, Count, Kind, Number, Parsed, Seconds, Switch, Text
from hybrid.config.pools import OffloadPool
from hybrid.config.restart_limit import RestartLimit
from hybrid.config.service import Service
from hybrid.plan import Plan, plan
from hybrid.plans import Plans

UNDECLARED = {"target": "it is the argument of the command, and a callable where a program gives it"}
SERVICE = declared(Service)
OPTIONS = (*SERVICE, *declared(Modes))
NUMBERS = [one for one in SERVICE if isinstance(one.kind, Number)]
REFERENCE = Path(__file__).resolve().parents[3] / "docs/options.md"


def named(one: Option) -> str:
    """Return the name of an option, for the names of tests."""
    return one.field


def test_every_field_of_a_service_is_declared_or_listed_with_a_reason() -> None:
    fields = {field.name for field in dataclasses.fields(Service)}
    assert {one.field for one in SERVICE} == fields - UNDECLARED.keys()


def test_names_are_unique() -> None:
    flags = [one.flag for one in OPTIONS]
    variables = [name for one in OPTIONS for name in one.variables]
    assert len(set(flags)) == len(flags)
    assert len(set(variables)) == len(variables)


@for_each("one", OPTIONS, ids=named)
def test_a_declaration_has_a_help_text_and_a_way_to_set_it(one: Option) -> None:
    assert one.help.endswith(".")
    assert one.section is not Section.OTHER
    if one.is_flag_only:
        assert (one.variables, one.key) == ((), None)
    else:
        words = one.flag.removeprefix("--").replace("-", "_")
        assert one.variables[0] == f"HYBRID_{words.upper()}"
        assert one.key == (None if one.is_of_the_run else words)


@for_each("one", OPTIONS, ids=named)
def test_a_declaration_checks_its_value(one: Option) -> None:
    """An option whose kind allows everything needs its own check. The watcher checks the globs of --reload."""
    takes_all = type(one.kind).complaint is Kind.complaint
    assert not takes_all or one.check is not None or one.field.startswith("reload_")


@for_each("one", NUMBERS, ids=named)
def test_a_number_has_a_unit_and_its_complaint_names_it(one: Option) -> None:
    """A count has none: the name of the option tells its unit."""
    assert isinstance(one.kind, Number)
    assert one.kind.unit or isinstance(one.kind, Count)
    assert one.kind.unit in (one.complaint(-1) or "")


@for_each("one", OPTIONS, ids=named)
def test_a_default_is_allowed(one: Option) -> None:
    assert one.complaint(one.default) is None


def is_parsed(one: Option) -> bool:
    """Return True if the default has a text to parse; no text means that there is no program, or no companion."""
    return isinstance(one.kind, Parsed) and not one.is_repeated and one.kind.text(one.default) is not None


@for_each("one", [one for one in SERVICE if is_parsed(one)], ids=named)
def test_a_shown_default_parses_to_the_default(one: Option) -> None:
    assert isinstance(one.kind, Parsed)
    assert one.kind.parse(str(one.kind.text(one.default))) == one.default


@for_each("one", OPTIONS, ids=named)
def test_the_help_and_the_reference_hold_each_option(one: Option) -> None:
    assert isinstance(run, SectionedCommand)
    under = dict(run.sections(click.Context(run, **run.context_settings)))[one.section]
    assert [flag.help for flag in under if one.flag in flag.opts] == [one.help]
    section = re.search(rf"^#### `{one.flag}`.*?(?=^#)", REFERENCE.read_text() + "#", re.DOTALL | re.MULTILINE)
    assert section is not None
    assert one.help in section[0]
    assert all(f"`{name}`" in section[0] for name in one.variables)


def bad_values() -> Iterator[tuple[Option, object, str]]:
    """Yield options, a value outside of their range, and its text if it can be typed."""
    for one in SERVICE:
        if isinstance(one.kind, Number):
            above = int(one.kind.range.highest) + 1
            yield one, float(above) if isinstance(one.kind, Seconds) or not one.kind.whole else above, str(above)


BESIDE = [(one.field, value, text) for one, value, text in bad_values()]
BESIDE += [
    ("workers", 1025, "1025"),
    ("unix_mode", 0o1000, "1000"),
    ("name", "two words", "two words"),
    ("root_path", "shop", "shop"),
    ("sni_hook", "choose", "choose"),
    ("access_log", "short", "short"),
    ("stall_threshold", 0.0005, "0.0005"),
    ("forwarded_allow_ips", ("10.0.0.1/8",), "10.0.0.1/8"),
    ("stop_signal", "KILL", "KILL"),
    ("hooks", "shop.hooks:start", "shop.hooks:start"),
]


@pytest.mark.parametrize(("field", "value", "text"), BESIDE, ids=lambda part: str(part)[:40])
def test_an_invalid_value_gets_the_same_error_from_every_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], field: str, value: object, text: str
) -> None:
    one = next(one for one in SERVICE if one.field == field)
    sentence = one.complaint(value)
    assert sentence is not None
    with pytest.raises(ConfigError) as raised:
        Service(**{field: value})  # type: ignore[arg-type]
    assert (raised.value.field, raised.value.reason) == (field, sentence)
    expected = f"hybrid: error: {one.flag}: {sentence}"
    assert said(capsys, "run", f"{one.flag}={text}") == expected
    monkeypatch.setenv(one.variables[0], text.replace("two words", "two+words"))
    assert said(capsys, "run") == expected.replace("two words", "two+words")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the first line of the error for a command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == api.Exit.USAGE
    return capsys.readouterr().err.splitlines()[0]


FILE = """
workers = 3
bind = ["127.0.0.1:0", "unix:/run/shop"]
keep_alive_timeout = "500ms"
send_timeout = 5
max_body_size = "16M"
unix_mode = "660"
max_restarts = "5/10"
access_log = "json"
pin = true
"""


def test_keys_and_kinds_are_enough_to_read_a_file() -> None:
    options = {one.key: one for one in SERVICE}
    values: dict[str, Any] = {}
    for key, value in tomllib.loads(FILE).items():
        one = options[key]
        kind = one.kind
        values[one.field] = kind.parse(value) if isinstance(kind, Parsed) and isinstance(value, str) else value
    assert Service(**values) == Service(
        workers=3,
        bind=["127.0.0.1:0", "unix:/run/shop"],
        keep_alive_timeout=0.5,
        send_timeout=5,
        max_body_size=16 << 20,
        unix_mode=0o660,
        max_restarts=RestartLimit(5, 10.0),
        access_log="json",
        pin=True,
    )


FROM_FILES = {one.field for one in SERVICE if one.section is Section.TLS} - {"tls_handshake_timeout"} | {
    "env_file",
    "log_config",
}
HIDDEN = {"admin_token", "offload_to"}  # `test_admin_plan.py`; `test_plan.py`, as it needs Dask
OTHER_VALUES: dict[str, Any] = {
    "bind": "127.0.0.1:1",
    "workers": 77,
    "offload_workers": 3,
    "offload_to": "tcp://scheduler:8786",
    "loop": "select",
    "name": "other",
    "unix_mode": 0o666,
    "pidfile": "x.pid",
    "chdir": "/",
    "user": 54_321,
    "group": 54_321,
    "root_path": "/shop",
    "max_restarts": RestartLimit(5, 10.0),
    "access_log": "json",
    "access_log_file": "x.access",
    "access_log_skip": "/livez",
    "log_file": "x.log",
    "request_id_header": "X-Request-ID",
    "label_header": "X-Route",
    "forwarded_allow_ips": "10.0.0.1",
    "admin": "127.0.0.1:9",
    "otel_endpoint": "http://127.0.0.1:4318",
    "control": "off",
    "control_group": 54_321,
    "command": ("true",),
    "hooks": "shop.hooks",
    "on_event": ("true",),
    "companions": (Companion("mailer", "shop.mail:run"),),
    "offload_pools": (OffloadPool("ml"),),
    "stop_signal": "INT",
    "depends": ("other",),
}  # field -> a value that is not the default, if none follows from the kind


def other_value(one: Option) -> Any:
    """Return an allowed value that is not the default."""
    match one.kind:
        case Switch():
            return not one.default
        case Choice(words=words):
            return next(word for word in words if word != one.default)
        case Number():
            return 2 if one.default != 2 else 3
    return OTHER_VALUES[one.field]


@for_each("one", [one for one in SERVICE if one.field not in FROM_FILES | HIDDEN], ids=named)
def test_each_option_reaches_the_plan_of_a_service(one: Option) -> None:
    """Options about files: `test_certificates.py`, `test_plan.py`, and two in `tests/integration`.

    These are `test_env_files.py` and `test_log_config.py`.

    Texts are compared, because addresses are equal whatever family they are limited to.
    """
    beside: dict[str, Any] = {"bind": "[::]:1"} if one.field == "ipv6_only" else {}
    if one.field in ("forwarded_headers", "forwarded_host"):
        beside = {"forwarded_allow_ips": "*"}
    if one.field == "access_log_file":
        beside = {"access_log": "json"}
    if one.field == "label_header":
        beside = {"accounting": True}
    if one.field == "stop_signal":
        beside = {"command": ("true",)}
    if one.field == "admin_actions":
        beside = {"admin": "127.0.0.1:9", "admin_token": "hunter2hunter2hunter2"}
    if one.field in ("admin_app_metrics", "otel_endpoint", "otel_interval"):
        beside = {"admin": "127.0.0.1:9"}
    given = Service(**{**beside, one.field: other_value(one)})
    assert repr(_planned(given)) != repr(_planned(Service(**beside)))


def _planned(service: Service) -> tuple[Plan, ...]:
    return (plan(service, travels=False), *Plans.of([dataclasses.replace(service, depends=())], travels=False).plans)


def test_a_secret_is_neither_shown_nor_repeated() -> None:
    secrets = [one for one in SERVICE if one.is_secret]
    assert [one.field for one in secrets] == ["admin_token", "keyfile_password"]
    assert "hunter2" not in repr(Service(certfile="c", keyfile_password="hunter2"))
    assert "hunter2" not in repr(Service(admin_token="hunter2hunter2hunter2"))
    assert secrets[1].complaint(["hunter2"]) == "give a text that is not empty"


@dataclasses.dataclass(frozen=True)
class _Busy(Service):
    """A subclass as an embedding program may write it."""

    backlog: int = 5


def test_a_subclass_with_other_defaults_is_checked_too() -> None:
    assert _Busy().backlog == 5
    with pytest.raises(ConfigError, match="use a whole number from 1 to 65535"):
        _Busy(backlog=0)


def test_a_declaration_may_set_every_field_with_a_default() -> None:
    optional = {field.name for field in dataclasses.fields(Option) if field.default is not dataclasses.MISSING}
    assert Details.__annotations__.keys() == optional


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Base:
    of_the_base: bool = option(True, Switch(), Section.LOG, "On.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Imaginary(_Base):
    tcp_keepalive_idle: float = option(60.0, Seconds(1, 32_767, zero="never"), Section.LIMITS, "How long.")
    plain: int = 3
    colour: str | None = option(None, Choice(("red", "blue")), Section.LOG, "Which.", shown="none", name="paint")
    words: tuple[str, ...] = option((), Text("WORD"), Section.LOG, "What.", is_repeated=True)


def test_one_field_makes_a_flag_a_variable_a_key_and_a_check() -> None:
    one = declared(_Imaginary)[0]
    assert (one.flag, one.variables, one.key) == (
        "--tcp-keepalive-idle",
        ("HYBRID_TCP_KEEPALIVE_IDLE",),
        "tcp_keepalive_idle",
    )
    seen: list[float] = []
    made = click.Command("x", params=[flag_of(one)], callback=lambda **values: seen.extend(values.values()))
    made.main(["--tcp-keepalive-idle", "2m"], standalone_mode=False)
    made.main([], standalone_mode=False)
    assert seen == [120.0, 60.0]
    assert one.complaint(0.5) == "0.5: use a number from 1 to 32767 (seconds; 0: never)"
    with pytest.raises(ConfigError, match=r"^tcp_keepalive_idle: 0\.5: use a number from 1 "):
        check_declared(_Imaginary(tcp_keepalive_idle=0.5), _Imaginary)


def test_each_of_several_values_is_checked() -> None:
    one = next(one for one in OPTIONS if one.field == "reload_dir")
    assert one.complaint(("src", "lib")) is None
    assert one.complaint(("src", "")) == "'': give a path"


def test_options_of_a_base_class_come_last_and_other_fields_are_not_options() -> None:
    assert [one.field for one in declared(_Imaginary)] == ["tcp_keepalive_idle", "colour", "words", "of_the_base"]


def test_none_is_allowed_only_if_it_is_the_default() -> None:
    check_declared(_Imaginary(), _Imaginary)
    with pytest.raises(ConfigError, match="True or False"):
        check_declared(_Imaginary(of_the_base=None), _Imaginary)  # type: ignore[arg-type]


def test_an_explicit_name_is_used_for_flag_variable_and_key() -> None:
    one = declared(_Imaginary)[1]
    assert (one.flag, one.variables, one.key) == ("--paint", ("HYBRID_PAINT",), "paint")
    assert flag_of(one).name == "colour"


def test_the_command_has_exactly_the_declared_options() -> None:
    flags = {parameter.name for parameter in command.commands["run"].params if isinstance(parameter, click.Option)}
    assert flags - {"help"} == {one.field for one in OPTIONS}


@pytest.mark.parametrize("value", [(), []])
def test_a_command_without_a_word_needs_a_program(value: object) -> None:
    assert CommandLine().complaint(value) == "give a program and its arguments"
    assert CommandLine().complaint(["", "x"]) == "['', 'x']: give a program and its arguments"
