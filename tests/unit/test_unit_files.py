"""The unit files in docs/units: systemd understands them, hybrid understands what they start, the manual shows them."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rows import for_each

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "docs/units"
FILES = sorted(UNITS.iterdir())
PROGRAM = "/srv/myapp/.venv/bin/hybrid"


def _parsed(file: Path) -> configparser.RawConfigParser:
    """One that takes the last of several equal keys, as systemd does after an empty one."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(file.read_text(encoding="utf-8"))
    return parser


def _command_lines() -> Iterator[list[str]]:
    for file in FILES:
        parser = _parsed(file)
        if parser.has_option("Service", "ExecStart"):
            yield shlex.split(parser["Service"]["ExecStart"])


def _seconds(unit: str, key: str) -> float:
    return float(_parsed(UNITS / unit)["Service"][key])


def test_hybrid_understands_every_command_line() -> None:
    from hybrid.cli.commands import command

    lines = list(_command_lines())
    assert len(lines) == 2
    for program, name, *arguments in lines:
        assert program == PROGRAM
        described = command.commands[name]
        values = described.make_context(name, arguments).params
        assert values["words"] == ("myapp:app",)


def test_systemd_waits_longer_for_the_stop_than_hybrid_does() -> None:
    for line in _command_lines():
        graceful = float(line[line.index("--graceful-timeout") + 1])
        assert _seconds("myapp.service", "TimeoutStopSec") >= graceful + 10  # and what SIGKILL may take


def test_the_exit_codes_that_prevent_a_restart_are_those_of_a_wrong_configuration() -> None:
    from hybrid.workers.contract.exits import Exit

    told = {int(code) for code in _parsed(UNITS / "myapp.service")["Service"]["RestartPreventExitStatus"].split()}
    assert told == {Exit.USAGE, Exit.TARGET, Exit.LOOP}


def test_with_a_socket_unit_no_address_is_given() -> None:
    assert "--bind" not in _parsed(UNITS / "socket-activation.conf")["Service"]["ExecStart"]


@for_each("file", FILES, ids=lambda path: path.name)
def test_the_manual_shows_the_file_as_it_is(file: Path) -> None:
    blocks = re.findall(r"^```ini\n(.*?)^```$", (ROOT / "docs/systemd.md").read_text(), re.MULTILINE | re.DOTALL)
    assert file.read_text(encoding="utf-8") in blocks


@for_each("file", FILES, ids=lambda path: path.name)
def test_the_first_line_names_the_place_of_the_file(file: Path) -> None:
    place = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert place == (file.name if file.suffix in (".service", ".socket") else f"myapp.service.d/{file.name}")


# --- what systemd says


def _analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


def _version(analyze: str) -> int:
    text = subprocess.run([analyze, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return int(text.split()[1])


def _complaints(folder: Path, drop_ins: list[str], unit: str = "myapp.service") -> list[str]:
    """What systemd has to say about the files as they are, but with a program that exists here."""
    analyze = _analyze()
    for name in ("myapp.service", "myapp.socket", *drop_ins):
        place = folder / name if name.startswith("myapp.") else folder / "myapp.service.d" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text((UNITS / name).read_text(encoding="utf-8").replace(PROGRAM, "/bin/true"))
    result = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(folder / unit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    lines = [line for line in result.stderr.splitlines() if "myapp" in line]
    if _version(analyze) < 253:
        lines = [line for line in lines if "Failed to parse service type, ignoring: notify-reload" not in line]
    return lines


@pytest.mark.parametrize(
    "drop_ins",
    [
        [],
        ["older-systemd.conf"],
        ["hardening.conf"],
        ["socket-activation.conf"],
        ["older-systemd.conf", "hardening.conf", "socket-activation.conf"],
    ],
    ids=lambda names: "+".join(names) or "alone",
)
def test_systemd_has_no_complaint_about_the_service(tmp_path: Path, drop_ins: list[str]) -> None:
    assert _complaints(tmp_path, drop_ins) == []


def test_systemd_has_no_complaint_about_the_socket(tmp_path: Path) -> None:
    assert _complaints(tmp_path, ["socket-activation.conf"], "myapp.socket") == []


def test_a_wrong_line_would_be_found(tmp_path: Path) -> None:
    drop_in = tmp_path / "myapp.service.d/wrong.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nWachdogSec=30\n")
    assert any("WachdogSec" in line for line in _complaints(tmp_path, []))
