"""The directories for metrics of the application: who makes them, who sits where, and who removes them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge
from support.shell import settings

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.metric_files import LIVE_MODES, MetricFiles, Seats
from hybrid.supervisor.settings import Settings


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def supervisors() -> Iterator[Any]:
    """Makes the files of supervisors."""
    made: list[MetricFiles] = []

    def make(inherited: str = "") -> MetricFiles:
        made.append(MetricFiles(inherited))
        return made[-1]

    yield make
    for files in made:
        files.end()


def metered(service: str = "web", **fields: Any) -> Settings:
    return settings(service=service, **{"app_metrics": "auto", **fields})


def opened(files: MetricFiles, service: str = "web", **fields: Any) -> Seats:
    seats = files.open(metered(service, **fields))
    assert seats is not None
    return seats


def test_without_metrics_nothing_is_made(supervisors: Any, base: Path) -> None:
    assert supervisors().open(settings()) is None
    assert list(base.iterdir()) == []


def test_each_service_has_a_private_directory(supervisors: Any, base: Path) -> None:
    files = supervisors()
    web, chat = opened(files).at(0), opened(files, "chat").at(0)
    assert web.directory != chat.directory
    assert {Path(one.directory).stat().st_mode & 0o777 for one in (web, chat)} == {0o700}
    assert Path(files.home).parent == base
    assert not Path(files.home).stat().st_mode & 0o066
    files.end()
    assert list(base.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_directory_belongs_to_the_account_of_the_workers(supervisors: Any, base: Path) -> None:
    """Root's own runtime directory is no place for it: other accounts may not enter."""
    files = supervisors()
    status = Path(opened(files, uid=65_534, gid=65_533).at(0).directory).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65_534, 65_533, 0o700)
    assert Path(files.home).stat().st_mode & 0o777 == 0o711


def test_only_a_sidecar_is_told_of_the_private_directory(supervisors: Any) -> None:
    files = supervisors()
    sidecar = metered("admin", is_sidecar=True)
    assert files.open(sidecar) is None
    assert files.home_for(sidecar) == files.home != ""
    assert files.home_for(metered()) == ""


def test_a_seat_is_the_place_on_the_scoreboard(supervisors: Any) -> None:
    children = Children(4, seats=opened(supervisors()))
    assert children.seats is not None
    first, second = children.take_place(), children.take_place()
    assert [children.seats.at(one.place).name for one in (first, second)] == ["0-0", "0-1"]
    children.give_back(first)
    assert children.seats.at(children.take_place().place).name == "0-0"


def test_a_successor_sits_elsewhere_and_the_numbers_go_round(supervisors: Any) -> None:
    first = supervisors()
    names = [opened(first).at(0).name]
    for _ in range(4):
        second = supervisors(first.home)
        names.append(opened(second).at(0).name)
        assert second.home == first.home
        first.end()
        first = second
    assert names == ["0-0", "1-0", "0-0", "1-0", "0-0"]


def test_a_third_that_starts_while_the_first_drains_has_a_number_of_its_own(supervisors: Any) -> None:
    first = supervisors()
    opened(first)
    second, third = supervisors(first.home), supervisors(first.home)
    assert [opened(files).at(5).name for files in (second, third)] == ["1-5", "2-5"]


def test_the_last_of_the_chain_removes_the_directory(supervisors: Any, base: Path) -> None:
    first = supervisors()
    opened(first)
    second = supervisors(first.home)
    opened(second)
    first.end()
    assert Path(second.home).is_dir()
    second.end()
    assert list(base.iterdir()) == []


def test_a_child_that_still_lives_keeps_the_number(supervisors: Any) -> None:
    """As its descriptor does, which is the same description."""
    first = opened(supervisors())
    child = os.dup(first._lock)
    os.close(first._lock)
    first._lock = -1
    other = supervisors(str(Path(first.at(0).directory).parent))
    assert opened(other).at(0).name == "1-0"
    os.close(child)


def test_a_directory_of_another_account_or_none_is_not_taken_over(supervisors: Any, base: Path) -> None:
    link = base / "link"
    link.symlink_to(tempfile.mkdtemp(dir=base))
    for inherited in (base / "missing", link):
        files = supervisors(str(inherited))
        opened(files)
        assert files.home != str(inherited)


def test_directories_that_were_left_are_removed_and_others_stay(supervisors: Any, base: Path) -> None:
    left = base / "hybrid-metrics-left"
    (left / "of-web").mkdir(parents=True)
    living = supervisors()
    opened(living)
    opened(supervisors())
    assert not left.exists()
    assert Path(living.home).is_dir()


def test_gauges_of_the_dead_are_removed_and_other_files_stay(supervisors: Any) -> None:
    children = Children(4, seats=opened(supervisors()))
    assert children.seats is not None
    record = children.take_place()
    seat = children.seats.at(record.place)
    names = [f"gauge_{mode}_{seat.name}.db" for mode in LIVE_MODES]
    others = [f"counter_{seat.name}.db", f"gauge_max_{seat.name}.db", "gauge_livesum_0-1.db", "gauge_livesum_17.db"]
    for name in (*names, *others):
        Path(seat.directory, name).touch()
    children.give_back(record)
    assert sorted(path.name for path in Path(seat.directory).glob("*.db")) == sorted(others)


def test_the_modes_of_live_gauges_are_those_of_the_library() -> None:
    assert {mode for mode in Gauge._MULTIPROC_MODES if mode.startswith("live")} == set(LIVE_MODES)


def test_the_users_directory_is_used_by_all_and_stays(supervisors: Any, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    left = chosen / "gauge_livesum_0-3.db"
    left.touch()
    files = supervisors()
    web = opened(files, app_metrics=str(chosen)).at(3)
    chat = opened(files, "chat", app_metrics=str(chosen)).at(3)
    assert {web.directory, chat.directory} == {str(chosen)}
    assert web.name != chat.name
    assert not left.exists()
    assert Path(files.home, "of-web").samefile(chosen)
    Path(chosen, "counter_0-0.db").touch()
    files.end()
    assert Path(chosen, "counter_0-0.db").exists()


def test_a_removed_service_takes_its_files_along(supervisors: Any) -> None:
    files = supervisors()
    web, chat = opened(files).at(0), opened(files, "chat").at(0)
    files.forget("web")
    assert not Path(web.directory).exists()
    assert Path(chat.directory).exists()
    successor = supervisors(files.home)
    opened(successor, "chat")
    files.forget("chat")  # the successor uses it
    assert Path(chat.directory).exists()


def test_a_service_goes_on_without_a_directory_and_the_log_says_why(
    supervisors: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert supervisors().open(metered(app_metrics=str(tmp_path / "missing"))) is None
    assert "no metrics of the application at --admin: [Errno 2]" in caplog.text
