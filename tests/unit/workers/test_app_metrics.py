"""prometheus_client under seats: changed when it is imported, files made whole, forks apart. Each in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import os, sys
from hybrid.workers.boot import app_metrics
from hybrid.workers.contract import metric_seat
place = metric_seat.Seat(sys.argv[1], 0, 3)
"""


def run(directory: Path, code: str) -> str:
    """Run code in a new interpreter; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + code, str(directory)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_application_that_does_not_import_it_pays_nothing(tmp_path: Path) -> None:
    code = "metric_seat.take(place); app_metrics.follow(); print('prometheus_client' in sys.modules)"
    assert run(tmp_path, code) == "False\n"
    assert files(tmp_path) == []


IMPORTED_LATER = "metric_seat.take(place); app_metrics.follow(); import prometheus_client as p"
IMPORTED_BEFORE = "import prometheus_client as p; metric_seat.take(place); app_metrics.follow(); app_metrics.follow()"


@pytest.mark.parametrize("order", [IMPORTED_LATER, IMPORTED_BEFORE])
def test_it_writes_by_seat(tmp_path: Path, order: str) -> None:
    run(tmp_path, f"{order}\np.Counter('a', 'a').inc(); p.Gauge('b', 'b', multiprocess_mode='livesum').set(2)")
    assert files(tmp_path) == ["counter_0-3.db", "gauge_livesum_0-3.db"]


def test_the_module_looks_as_ever(tmp_path: Path) -> None:
    code = """
import importlib.util
metric_seat.take(place); app_metrics.follow()
assert importlib.util.find_spec("prometheus_client.values") is not None
import inspect, prometheus_client.values as values
assert values.__spec__.loader is values.__loader__
assert "MultiProcessValue" in inspect.getsource(values)
print(type(values.__loader__).__name__, values.MmapedDict.__name__)
"""
    assert run(tmp_path, code) == "SourceFileLoader MmapedDict\n"


def test_a_fork_that_takes_a_seat_writes_there_and_one_that_takes_none_by_its_pid(tmp_path: Path) -> None:
    code = """
metric_seat.take(place); app_metrics.follow()
import prometheus_client as p
made = p.Counter("a", "a")
made.inc(5)
pids = []
for number in (None, 4):
    pids.append(os.fork())
    if pids[-1] == 0:
        if number is not None:
            metric_seat.take(place.at(number))
        made.inc()
        os._exit(0)
    os.waitpid(pids[-1], 0)
made.inc()
print(pids[0], made._value.get())
"""
    pid, value = run(tmp_path, code).split()
    assert value == "6.0"
    assert files(tmp_path) == sorted(["counter_0-3.db", "counter_0-4.db", f"counter_{pid}.db"])


def test_the_next_in_a_seat_goes_on_counting(tmp_path: Path) -> None:
    code = """
metric_seat.take(place); app_metrics.follow()
import prometheus_client as p
made = p.Counter("a", "a", ["l"])
made.labels("x").inc()
print(made.labels("x")._value.get())
"""
    assert [run(tmp_path, code) for _ in range(3)] == ["1.0\n", "2.0\n", "3.0\n"]


def test_a_file_appears_with_its_header(tmp_path: Path) -> None:
    """A file of another name is there first, which scrapers do not read."""
    code = """
metric_seat.take(place); app_metrics.follow()
import prometheus_client as p
import pathlib
seen, link = [], os.link
def noting(source, target):
    assert not target.startswith(source) and not source.endswith(".db")
    seen.append(pathlib.Path(source).read_bytes()[:4])
    link(source, target)
os.link = noting
p.Counter("a", "a")
print(int.from_bytes(seen[0], "little"))
"""
    assert run(tmp_path, code) == "8\n"
    assert files(tmp_path) == ["counter_0-3.db"]


def test_a_broken_file_is_begun_anew(tmp_path: Path) -> None:
    broken = b"\x40" + b"\0" * 7 + b"\xff" * 92
    (tmp_path / "counter_0-3.db").write_bytes(broken)
    code = """
metric_seat.take(place); app_metrics.follow()
import prometheus_client as p
made = p.Counter("a", "a")
made.inc()
print(made._value.get())
"""
    said = run(tmp_path, code)
    assert "1.0\n" in said
    assert "is broken: its metrics begin anew" in said
    assert (tmp_path / "counter_0-3.db").read_bytes()[:100] != broken


def test_a_release_that_is_not_known_goes_on_by_pids(tmp_path: Path) -> None:
    code = """
import types
metric_seat.take(place)
sys.modules["prometheus_client.values"] = types.ModuleType("values")
app_metrics.follow()
"""
    assert "not known: metrics of the application go by pids" in run(tmp_path, code)
