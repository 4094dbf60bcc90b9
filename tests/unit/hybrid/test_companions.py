"""Companions in the configuration: as values, as text, as tables of a file; and their mistakes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.rows import for_each

from hybrid import Companion, ConfigError, Service
from hybrid.config.companions import MOST_NAMES, companion_text, read_companion
from hybrid.config.declaring import declared
from hybrid.config.file import FileError, read
from hybrid.plan import plan
from hybrid.plans import Plans

MAILER = Companion("mailer", "shop.mail:run")


def function() -> None:
    """Do nothing."""


# --- as text


@pytest.mark.parametrize(
    ("text", "companion"),
    [
        ("mailer=shop.mail:run", MAILER),
        (" mailer = shop.mail:run * 2 ", Companion("mailer", "shop.mail:run", 2)),
        ("a.b-c=m:f.g*64", Companion("a.b-c", "m:f.g", 64)),
    ],
)
def test_a_companion_is_a_name_a_function_and_a_number(text: str, companion: Companion) -> None:
    assert read_companion(text) == companion
    assert read_companion(companion_text(companion)) == companion


@for_each(
    ("text", "reason"),
    [
        ("mailer", "'mailer' is not a companion: write NAME=MODULE:FUNCTION"),
        ("mailer=shop.mail", "target 'shop.mail' names no attribute: write module:attribute"),
        ("mailer=shop/mail.py:run", "starts with a file name, not a module"),
        ("=shop.mail:run", "'': use up to 64 letters, digits"),
        ("a/b=shop.mail:run", "'a/b': use up to 64 letters, digits"),
        ("mailer=shop.mail:run*0", "workers: 0: use a whole number from 1 to 64"),
        ("mailer=shop.mail:run*65", "workers: 65: use a whole number from 1 to 64"),
        ("mailer=shop.mail:run*two", "'two' is not a number of processes"),
        ("mailer=shop.mail:run*", "'' is not a number of processes"),
        ("cpu=shop.mail:run", "this is the name of the offload workers"),
        ("dask=shop.mail:run", "this is the name of the gateway to a Dask cluster"),
    ],
)
def test_a_mistake_says_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_companion(text)


# --- as values


@for_each("values", [{"target": 5}, {"name": ""}, {"workers": 0}, {"workers": True}, {"name": None}])
def test_a_companion_checks_its_values(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Companion(**{"name": "mailer", "target": "shop.mail:run", **values})
    assert caught.value.field == "companions"


@for_each(
    ("companions", "reason"),
    [
        ([MAILER, MAILER], "two companions are called 'mailer'"),
        ([Companion(f"c{number}", "a:b") for number in range(MOST_NAMES + 1)], "17 companions: use at most 16 names"),
        ({"mailer": "shop.mail:run"}, "give Companion(name, target), or name=module:function as text"),
        ("mailer", "'mailer': give Companion(name, target)"),
        (["mailer"], "'mailer': give Companion(name, target)"),
    ],
)
def test_a_service_checks_them_together(companions: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Service("shop:app", companions=companions)
    assert reason in caught.value.reason


def test_a_program_has_no_companions() -> None:
    with pytest.raises(ConfigError, match="a command has none"):
        Service(command=("true",), companions=[MAILER])


def test_a_companion_may_not_have_the_name_of_a_service() -> None:
    web, other = Service("shop:app", name="web", companions=[MAILER]), Service("a:b", name="web.mailer", bind="[::1]:1")
    with pytest.raises(ConfigError, match="give one of them another name"):
        Plans.of([web, other], travels=False)


def test_a_stop_may_take_two_grace_periods() -> None:
    service = Service("shop:app", companions=[MAILER], graceful_timeout=5)
    assert Plans.of([service], travels=False).graceful_timeout == 10


def test_a_plan_has_the_names_for_the_supervisor_and_the_functions_for_the_children() -> None:
    found = plan(Service("shop:app", companions=[Companion("a", function, 2), MAILER]), travels=False)
    assert found.settings.companions == (("a", 2), ("mailer", 1))
    assert [(one.called, one.factory, one.reference) for one in found.application.companions] == [
        ("a", function, None),
        ("mailer", None, "shop.mail:run"),
    ]


def test_a_function_travels_to_another_process_as_a_target_does() -> None:
    (sent,) = plan(Service("shop:app", companions=[Companion("a", function)]), travels=True).application.companions
    assert sent.factory is None
    assert sent.pickled
    assert sent.title.endswith(":function")


# --- in a file


def companions_in(tmp_path: Path, text: str) -> object:
    file = tmp_path / "hybrid.toml"
    file.write_text(text)
    return read(file, declared(Service)).services["web"]["companion"].value


HEAD = '[service.web]\ntarget = "shop:app"\n'


@pytest.mark.parametrize(
    "text",
    [
        '[service.web.companion.mailer]\ntarget = "shop.mail:run"\nworkers = 2\n',
        'companion = "mailer=shop.mail:run*2"\n',
        'companion = ["mailer=shop.mail:run*2"]\n',
        'companion.mailer = { target = "shop.mail:run", workers = 2 }\n',
    ],
)
def test_a_file_has_them_as_tables_or_as_text(tmp_path: Path, text: str) -> None:
    assert companions_in(tmp_path, HEAD + text) == (Companion("mailer", "shop.mail:run", 2),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[service.web.companion.mailer]\ntarget = "shop.mail"\n', "4:1: target 'shop.mail' names no attribute"),
        ("[service.web.companion.mailer]\n target = 5\n", "4:2: target: 5: write a text"),
        ('[service.web.companion.mailer]\ntarget = "a:b"\nworkers = 65\n', "5:1: workers: 65: use a whole number"),
        ('[service.web.companion.mailer]\ntarget = "a:b"\nworker = 1\n', "5:1: unknown key 'worker' of a companion"),
        ("[service.web.companion.mailer]\nworkers = 1\n", "3:1: companion mailer has no target"),
        ('[service.web.companion."a b"]\ntarget = "a:b"\n', "3:1: 'a b': use up to 64 letters"),
        ("companion = { mailer = 3 }\n", "3:1: companion.mailer is a table"),
        ('companion = "mailer"\n', "3:1: companion: 'mailer' is not a companion"),
        ("companion = [3]\n", "3:1: companion: 3: give Companion(name, target)"),
    ],
)
def test_a_mistake_in_a_file_has_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(FileError) as caught:
        companions_in(tmp_path, HEAD + text)
    assert expected in str(caught.value)
