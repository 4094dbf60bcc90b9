"""Values as text: parsing and formatting."""

from __future__ import annotations

import click
import pytest
from support.rows import for_each

from hybrid.cli.flags import flag_of
from hybrid.config.declaring import declared
from hybrid.config.restart_limit import RestartLimit
from hybrid.config.service import ConfigError, Service
from hybrid.config.texts import (
    duration_text,
    read_duration,
    read_mode,
    read_restarts,
    read_size,
    read_workers,
    restarts_text,
    size_text,
)


@for_each(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), (".5", 0.5), ("500ms", 0.5), ("30s", 30), ("2m", 120), ("1h", 3600), (" 2 M ", 120)],
)
def test_a_duration_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@for_each("text", ["", "-1", "soon", "1d", "1e3", "nan", "inf", "5 5", "ms"])
def test_an_invalid_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="500ms"):
        read_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(30.0, "30s"), (0.1, "100ms"), (0, "0s"), (1.5, "1.5s")])
def test_a_default_is_shown_with_its_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
    assert read_duration(text) == seconds


@for_each(
    ("text", "size"),
    [
        ("0", 0),
        ("8190", 8190),
        ("64K", 65_536),
        ("64k", 65_536),
        ("64KiB", 65_536),
        ("64 kB", 65_536),
        ("16M", 16 << 20),
        (" 1 g ", 1 << 30),
        ("7B", 7),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert read_size(text) == size


@for_each("text", ["", "-1", "much", "1.5M", "1e3", "M", "1 2", "1T", "0x10", "1i"])
def test_an_invalid_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="64K"):
        read_size(text)


@for_each(
    ("size", "text"),
    [(0, "0"), (240, "240"), (8190, "8190"), (1024, "1K"), (32_768, "32K"), (16 << 20, "16M"), (3 << 30, "3G")],
)
def test_a_default_size_is_shown_with_its_unit(size: int, text: str) -> None:
    assert size_text(size) == text
    assert read_size(text) == size


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("4", 4)])
def test_workers_are_auto_or_a_number(text: str, value: str | int) -> None:
    assert read_workers(text) == value


def test_other_words_for_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="write auto or a number"):
        read_workers("all")


@pytest.mark.parametrize(("text", "mode"), [("600", 0o600), ("0660", 0o660), ("0o777", 0o777)])
def test_a_file_mode_is_octal(text: str, mode: int) -> None:
    assert read_mode(text) == mode


@pytest.mark.parametrize("text", ["rw", "", "680"])
def test_an_invalid_file_mode_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="octal"):
        read_mode(text)


@for_each(
    ("text", "limit"),
    [
        ("5/10", RestartLimit(5, 10.0)),
        ("5/10s", RestartLimit(5, 10.0)),
        ("20/1m", RestartLimit(20, 60.0)),
        ("1/500ms", RestartLimit(1, 0.5)),
        (" 5 / 1.5 H ", RestartLimit(5, 5400.0)),
        ("0", None),
    ],
)
def test_a_restart_limit_is_a_number_and_a_time_or_0(text: str, limit: RestartLimit | None) -> None:
    assert read_restarts(text) == limit


@for_each(
    "text",
    [
        "",
        "5",
        "/",
        "5/",
        "/10",
        "5/10/2",
        "-5/10",
        "5/-10",
        "5/soon",
        "five/10",
        "5/1d",
        "off",
        "\u0665/10",
        "9" * 5000,
    ],
)
def test_an_invalid_restart_limit_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"write N/SECONDS, e\.g\. 5/10, 5/10s or 20/1m, or 0 for none"):
        read_restarts(text)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("0/10", "from 1 to 10000"), ("10001/10", "from 1 to 10000"), ("5/0", "from 0.001"), ("5/25h", "to 86400")],
)
def test_a_restart_limit_out_of_range_is_refused_with_the_range(text: str, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"{allowed}.*, e\.g\. 5/10, or 0 alone for no limit"):
        read_restarts(text)


@for_each(("restarts", "seconds"), [(0, 10.0), (True, 10.0), (1.5, 10.0), (5, 0.0), (5, float("nan"))])
def test_a_restart_limit_made_in_python_is_checked_too(restarts: int, seconds: float) -> None:
    with pytest.raises(ConfigError) as raised:
        RestartLimit(restarts, seconds)
    assert raised.value.field == "max_restarts"


@pytest.mark.parametrize(
    ("limit", "text"), [(None, "0"), (RestartLimit(5, 10.0), "5/10"), (RestartLimit(20, 0.5), "20/0.5")]
)
def test_a_restart_limit_is_shown_as_typed(limit: RestartLimit | None, text: str) -> None:
    assert restarts_text(limit) == text
    assert read_restarts(text) == limit


def test_the_command_shows_the_error_of_the_parser() -> None:
    option = next(one for one in declared(Service) if one.field == "keep_alive_timeout")
    with pytest.raises(click.BadParameter, match="is not a duration: write seconds"):
        flag_of(option).type.convert("soon", None, None)


def test_a_restart_limit_can_be_off_by_default() -> None:
    seen: list[RestartLimit | None] = []
    option = flag_of(next(one for one in declared(Service) if one.field == "max_restarts"))
    command = click.Command("run", params=[option], callback=lambda max_restarts: seen.append(max_restarts))
    command.main([], standalone_mode=False)
    command.main(["--max-restarts", "5/10"], standalone_mode=False)
    assert seen == [None, RestartLimit(5, 10.0)]
