"""The pidfile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError, _holder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.pid"


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def living_pid() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


def test_it_holds_our_pid_until_it_is_released(path: Path) -> None:
    pidfile = Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(path.parent.iterdir()) == [path]
    pidfile.release()
    pidfile.release()
    assert not path.exists()


def test_a_living_holder_is_named_and_keeps_it(path: Path, living_pid: int) -> None:
    path.write_text(f"{living_pid}\n")
    with pytest.raises(PidfileError, match=f"held by the living process {living_pid}"):
        Pidfile(path)
    assert path.read_text() == f"{living_pid}\n"


def test_a_living_process_of_another_user_counts_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    path.write_text("4711\n")
    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(PidfileError, match="4711"):
        Pidfile(path)


def test_the_pid_of_a_dead_process_is_replaced(path: Path, dead_pid: int) -> None:
    path.write_text(f"{dead_pid}\n")
    Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", ["", "nonsense", "0", "-1", "99999999999999", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_an_invalid_pid_is_replaced(path: Path, text: str) -> None:
    path.write_text(text)
    Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"


def test_our_own_pid_of_an_earlier_life_is_no_obstacle(path: Path) -> None:
    """In a container every start has the same pid."""
    path.write_text(f"{os.getpid()}\n")
    Pidfile(path)


def test_it_is_not_removed_if_it_holds_another_pid(path: Path) -> None:
    pidfile = Pidfile(path)
    path.write_text("4711\n")
    pidfile.release()
    assert path.read_text() == "4711\n"


def test_a_place_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(PidfileError, match="no such file or directory"):
        Pidfile(tmp_path / "missing" / "service.pid")


def test_a_change_of_directory_does_not_lose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pidfile = Pidfile(Path("service.pid"))
    monkeypatch.chdir("/")
    pidfile.release()
    assert not (tmp_path / "service.pid").exists()


def test_a_predecessor_keeps_it_until_it_is_taken_over(path: Path, living_pid: int) -> None:
    path.write_text(f"{living_pid}\n")
    pidfile = Pidfile(path, living_pid)
    pidfile.release()
    assert path.read_text() == f"{living_pid}\n"
    pidfile.take_over()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()
    assert not path.exists()


def test_a_living_holder_other_than_the_predecessor_is_refused(path: Path, living_pid: int) -> None:
    path.write_text(f"{living_pid}\n")
    with pytest.raises(PidfileError, match=f"held by the living process {living_pid}"):
        Pidfile(path, os.getppid())


def test_a_successor_may_be_the_first_to_have_one(path: Path, living_pid: int) -> None:
    pidfile = Pidfile(path, living_pid)
    assert not path.exists()
    pidfile.take_over()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_place_that_cannot_be_written_is_said_before_it_is_taken_over(tmp_path: Path, living_pid: int) -> None:
    with pytest.raises(PidfileError, match="no such file or directory"):
        Pidfile(tmp_path / "missing" / "service.pid", living_pid)


def test_a_link_that_was_planted_for_the_draft_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("precious")
    path.with_name(f".{path.name}.{os.getpid()}").symlink_to(victim)
    pidfile = Pidfile(path)
    assert victim.read_text() == "precious"
    assert path.read_text() == f"{os.getpid()}\n"
    assert not path.is_symlink()
    pidfile.release()


def test_all_users_may_read_it_whatever_the_umask_is(path: Path) -> None:
    before = os.umask(0o077)
    try:
        pidfile = Pidfile(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    pidfile.release()


def test_a_file_without_an_end_is_read_a_little() -> None:
    with pytest.raises(PidfileError, match="cannot write the pidfile"):
        Pidfile(Path("/dev/full/service.pid"))
    assert _holder(Path("/dev/full")) is None
