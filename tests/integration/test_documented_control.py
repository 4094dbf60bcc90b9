"""The sessions in `docs/control.md` are what the commands write."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.control_contract import CONTRACT, EVENT_SHAPE, STACKS_SHAPE, STATUS_SHAPE, complaints
from support.control_peer import ControlPeer, dial, lines_of, program, service, status
from support.process import OUR_VARIABLES

from hybrid.cli.entry import CONTROL, main
from hybrid.console import top
from hybrid.console.keys import Key
from hybrid.console.layout import plain
from hybrid.console.lists import Supervisor, supervisor_lines
from hybrid.console.status_text import COLUMNS
from hybrid.console.views import status_of

TEXT = (Path(__file__).resolve().parents[2] / "docs/control.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def sessions() -> Iterator[tuple[str, str]]:
    """Yield each command of a session, and what follows it."""
    for block in blocks("console"):
        for one in block.split("$ ")[1:]:
            command, _, shown = one.partition("\n")
            yield command, shown


SESSIONS = dict(sessions())


@pytest.mark.parametrize("command", [each for each in SESSIONS if each.startswith("hybrid ") and each != "hybrid ps"])
def test_a_command_writes_what_the_document_shows(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(OUR_VARIABLES)]:
        monkeypatch.delenv(name)
    with ControlPeer() as peer:
        monkeypatch.setenv("HYBRID_CONTROL", peer.address)
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
    assert ended.value.code == 0
    out, err = capfd.readouterr()
    assert err + out == SESSIONS[command]


def test_the_supervisors_are_listed_as_the_document_shows() -> None:
    blog = status(service("blog", addresses=["unix:/run/blog.sock"]), up=340.0)
    rows = [
        Supervisor("blog", 4800, status_of(blog)),
        Supervisor("shop", 4711, status_of(status(service(), program()))),
    ]
    assert "".join(f"{plain(line)}\n" for line in supervisor_lines(rows)) == SESSIONS["hybrid ps"]


def test_top_looks_as_the_document_shows() -> None:
    state = top.refreshed(top.Top(), status_of(status()))
    state, _ = top.pressed(state, Key.DOWN, 7)
    assert "".join(f"{plain(line)}\n" for line in top.render(state, 130, 7)) == blocks("text")[0]


@pytest.mark.parametrize("command", [each for each in SESSIONS if each.startswith("printf")])
def test_a_line_is_answered_as_the_document_shows(command: str) -> None:
    line = shlex.split(command)[1].replace("\\n", "\n")
    with ControlPeer() as peer, dial(peer.address) as sock:
        sock.sendall(line.encode())
        answers = lines_of(sock)
        shown = [json.loads(each) for each in SESSIONS[command].splitlines()]
        assert [next(answers) for _ in shown] == shown


@pytest.mark.parametrize(("place", "shape"), [(0, STATUS_SHAPE), (1, STACKS_SHAPE), (2, EVENT_SHAPE)])
def test_the_objects_of_the_document_have_the_shape_of_the_contract(place: int, shape: object) -> None:
    assert [*complaints(json.loads(blocks("json")[place]), shape)] == []


def test_every_command_request_and_column_is_named() -> None:
    names = {f"hybrid {name}" for name in CONTROL} - set(re.findall(r"^\| `(hybrid \w+)", TEXT, re.MULTILINE))
    assert names == set()
    requests = {str(clause.request["request"]) for clause in CONTRACT if isinstance(clause.request, dict)}
    told = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert requests - {"no_such_request"} - told == set()
    order = sorted((column for column in COLUMNS if column.leaves), key=lambda column: column.leaves)
    assert f"this order: {', '.join(column.title for column in order)}." in " ".join(TEXT.split())
