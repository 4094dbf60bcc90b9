"""`--env-file`: the application sees the variables before its import, in every kind of worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.clients import ask
from support.service import serving
from support.upgrading import upgradable

import hybrid as hybrid_package

APPLICATION = """
import os
at_import = os.environ.get("GREETING", "none")
SECRET = "HYBRID_SERVICE_X_KEYFILE_PASSWORD"
taken = os.environ.pop("TAKEN", None)

def handle(sock, address):
    seen = [at_import, os.environ.get("GREETING"), os.environ.get("TAKEN"), os.environ.get(SECRET)]
    sock.sendall(" ".join(map(str, seen)).encode())
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "greeting.py").write_text(APPLICATION)
    (tmp_path / ".env").write_text("GREETING=hello\nTAKEN=x\nHYBRID_SERVICE_X_KEYFILE_PASSWORD=hunter2\n")
    return tmp_path


@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_application_sees_the_variables_and_may_remove_one(directory: Path, preload: str) -> None:
    arguments = ("--env-file", ".env", "--workers", "1", "--preload", preload)
    with serving("greeting:handle", *arguments, cwd=directory) as process:
        assert ask(process.address, b"") == b"hello hello None None"


def test_a_variable_of_the_environment_wins(directory: Path) -> None:
    with serving(
        "greeting:handle", "--env-file", ".env", "--workers", "1", cwd=directory, env={"GREETING": "moin"}
    ) as process:
        assert ask(process.address, b"") == b"moin moin None None"


def test_an_upgrade_reads_the_file_again(directory: Path) -> None:
    with upgradable("greeting:handle", "--env-file", ".env", "--workers", "1", cwd=directory) as service:
        (directory / ".env").write_text("GREETING=changed\n")
        service.upgrade()
        assert ask(service.process.address, b"") == b"changed changed None None"


def test_an_embedded_service_gets_the_variables_and_its_program_does_not(directory: Path) -> None:
    service = hybrid_package.Service(
        "greeting:handle", bind="127.0.0.1:0", workers=1, chdir=directory, env_file=directory / ".env"
    )
    with hybrid_package.Supervisor(service) as running:
        host, _, port = running.addresses[0].rpartition(":")
        assert ask((host, int(port)), b"") == b"hello hello None None"
    assert "GREETING" not in os.environ


def test_an_embedded_service_without_its_env_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(hybrid_package.ConfigError, match=r"env_file: .*/gone: this env file cannot be read"):
        hybrid_package.Supervisor(hybrid_package.Service("a:b", env_file=tmp_path / "gone"))
