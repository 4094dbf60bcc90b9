"""Options of other servers, and the advice for them."""

from __future__ import annotations

import re

import pytest
from support.rows import for_each

from hybrid.cli.commands import all_commands, command
from hybrid.cli.habits import _COMMANDS, advise_command, advise_option
from hybrid.init.equivalents import OTHERWISE, SAME

RUN = command.commands["run"]
NAMES = {name for parameter in RUN.params for name in (*parameter.opts, *parameter.secondary_opts)}


@for_each(
    ("line", "option", "expected"),
    [
        ("--port 9000 app:app", "--port", "write --bind 127.0.0.1:9000"),
        ("--host 0.0.0.0 --port=9000 app:app", "--host", "write --bind 0.0.0.0:9000"),
        ("--host :: app:app", "--host", "write --bind [::]:8000"),
        ("-p 80", "-p", "write --bind 127.0.0.1:80"),
        ("-b :8000 app:app", "-b", "write --bind 0.0.0.0:8000"),
        ("-b unix:/run/app.sock app:app", "-b", "write --bind unix:/run/app.sock"),
        ("--uds /run/app.sock", "--uds", "write --bind unix:/run/app.sock"),
        ("--fd 3", "--fd", "write --bind fd://3"),
        ("-w 4 app:app", "-w", "write --workers 4"),
        ("-w4 app:app", "-w", "write --workers 4"),
        ("-w", "-w", "write --workers"),
        ("-k gevent app:app", "-k", "write --loop gevent"),
        ("--worker-class gthread", "--worker-class", "write --threads N"),
        ("-k uvicorn.workers.UvicornWorker app:app", "-k", "leave it out: ASGI applications are recognised"),
        ("--timeout 30 app:app", "--timeout", "write --stall-timeout 30"),
        ("--daemon", "--daemon", "let a service manager start it"),
    ],
)
def test_an_option_of_another_server_gets_its_equivalent(line: str, option: str, expected: str) -> None:
    advice = advise_option(option, line.split())
    assert advice is not None
    assert advice.startswith(expected)


@for_each("option", sorted(SAME))
def test_each_advised_option_exists(option: str) -> None:
    assert SAME[option] in NAMES


@for_each("option", sorted({*SAME, *OTHERWISE}))
def test_no_option_of_hybrid_gets_advice(option: str) -> None:
    assert option not in NAMES


def test_an_unknown_option_gets_no_advice() -> None:
    assert advise_option("--nonsense", ["--nonsense"]) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("good:app", "write hybrid run good:app"),
        ("app.py --workers 2", "write hybrid run app.py --workers 2"),
        ("serve", "write hybrid run"),
        ("monit", "write hybrid top"),
    ],
)
def test_a_target_in_the_place_of_a_command_gets_the_advice_to_write_run(line: str, expected: str) -> None:
    assert advise_command(line.split()[0], line.split()) == expected


@for_each("word", sorted(_COMMANDS))
def test_advice_for_a_command_names_commands_that_exist(word: str) -> None:
    assert word not in all_commands()
    named = set(re.findall(r"hybrid (\w+)", _COMMANDS[word]))
    assert named
    assert named <= all_commands().keys()


def test_an_unlikely_command_gets_no_advice() -> None:
    assert advise_command("dance", ["dance"]) is None
