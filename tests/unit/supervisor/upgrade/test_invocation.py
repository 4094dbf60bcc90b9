"""How a program was started, seen by that program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid.supervisor.upgrade.invocation import Invocation

_LOOK = """
import os, sys
if len(sys.argv) > 1:
    os.environ["LISTEN_PID"] = str(os.getpid())
from hybrid.supervisor.upgrade.invocation import Invocation
os.chdir("/")
os.environ["LATER"] = "x"
import json
found = Invocation.current()
print(json.dumps([found.executable, found.arguments, found.directory, dict(found.environment)]))
"""


def looks(cwd: Path, *arguments: str, **environment: str) -> tuple[str, list[str], str, dict[str, str]]:
    """Start a program in `cwd`, and return its invocation."""
    command = [sys.executable, "-P", "-X", "dev", "-W", "ignore", "-c", _LOOK, *arguments]
    env = {**os.environ, **environment}
    output = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True).stdout
    found: Any = json.loads(output)
    return found[0], found[1], found[2], found[3]


def test_interpreter_and_all_arguments_are_kept(tmp_path: Path) -> None:
    executable, arguments, _, _ = looks(tmp_path, "one", "two words")
    assert Path(executable).samefile(sys.executable)
    assert arguments == ["-P", "-X", "dev", "-W", "ignore", "-c", _LOOK, "one", "two words"]


def test_directory_and_environment_are_those_of_the_start(tmp_path: Path) -> None:
    _, _, directory, environment = looks(tmp_path, MINE="1")
    assert directory == str(tmp_path.resolve())
    assert (environment["MINE"], environment.get("LATER")) == ("1", None)


def test_a_link_to_the_directory_is_kept_for_it_may_lead_elsewhere_later(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    assert looks(tmp_path / "current", PWD=f"{tmp_path}/current")[2] == f"{tmp_path}/current"


@pytest.mark.parametrize("named", ["/", "relative", "", "/nowhere"])
def test_a_wrong_name_of_the_directory_is_not_believed(tmp_path: Path, named: str) -> None:
    assert looks(tmp_path, PWD=named)[2] == str(tmp_path.resolve())


def test_variables_for_this_process_only_are_removed(tmp_path: Path) -> None:
    environment = looks(tmp_path, "mine", LISTEN_FDS="2", LISTEN_FDNAMES="a:b", HYBRID_HANDOVER="9")[3]
    assert not [name for name in environment if name.startswith(("LISTEN_", "HYBRID_HANDOVER"))]


def test_variables_for_another_process_stay(tmp_path: Path) -> None:
    assert looks(tmp_path, LISTEN_PID="1", LISTEN_FDS="2")[3]["LISTEN_FDS"] == "2"


def test_secrets_of_the_environment_are_not_shown() -> None:
    assert "secret" not in repr(Invocation("python", (), "/", {"KEY": "secret"}))
