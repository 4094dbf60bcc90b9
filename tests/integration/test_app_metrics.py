"""Metrics of applications, made with prometheus_client: exact over deaths, reloads, recycling, reforks and upgrades."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.test_admin import ask, serves, values
from support import processes
from support.loops import MATRIX
from support.operated import Operated, operated
from support.service import eventually

MANY = 200 if MATRIX else 50  # workers that are recycled, of five requests each
WEB = """
admin = "127.0.0.1:0"
[service.web]
target = "metered:app"
bind = "127.0.0.1:0"
workers = 2
"""


class Shop:
    """A running service `web` with an admin process, whose metrics are read."""

    def __init__(self, run: Operated) -> None:
        self.run = run
        self.admin = serves(run)
        self.line = run.connects()
        self.web = self.port("web")
        self.asked: Counter[str] = Counter()  # path -> requests that were answered

    def port(self, service: str) -> int:
        found = {one["name"]: one for one in self.line.result("status")["services"]}
        return int(found[service]["addresses"][0].rpartition(":")[2])

    def asks(self, times: int = 20, path: str = "/") -> list[tuple[int, Path]]:
        """Send requests; return the pids that answered, and the directory that each of them writes to."""
        found = []
        for _ in range(times):
            pid, directory = ask(self.web, path).text.split()
            found.append((int(pid), Path(directory)))
            self.asked[path] += 1
        return found

    def directory(self) -> Path:
        return self.asks(1)[0][1]

    def text(self) -> str:
        answer = ask(self.admin, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert answer.status == 200
        return answer.text

    def read(self, name: str) -> dict[tuple[str, ...], float]:
        return values(self.text(), name)

    def worker_pids(self) -> list[int]:
        services = {one["name"]: one for one in self.line.result("status")["services"]}
        return [worker["pid"] for worker in services["web"]["workers"] if worker["state"] == "ready"]

    def is_settled(self) -> bool:
        services = {one["name"]: one for one in self.line.result("status")["services"]}
        states = [worker["state"] for worker in services["web"]["workers"]]
        return states == ["ready"] * services["web"]["wanted"]

    def settles(self) -> None:
        eventually(self.is_settled, "each slot has one worker, which is ready")

    def kills(self) -> None:
        """Kill a worker, and wait until another one has replaced it."""
        pid = self.worker_pids()[0]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in self.worker_pids(), "its death was noticed")
        self.settles()

    def reloads(self) -> None:
        """Reload, and wait until the old workers are gone."""
        self.line.result("reload")
        self.settles()

    def hears_all(self) -> None:
        """Send requests until each worker has answered one."""
        pids: set[int] = set()
        eventually(lambda: pids.update(pid for pid, _ in self.asks(1)) or pids >= {*self.worker_pids()}, "all answered")

    def assert_exact(self) -> None:
        """Check that counters and histograms are what the clients have counted."""
        text = self.text()
        assert values(text, "shop_done_total") == {(path,): times for path, times in self.asked.items()}
        assert values(text, "shop_took_seconds_count") == {(): self.asked.total()}
        assert values(text, "shop_took_seconds_sum") == {(): 1.5 * self.asked.total()}
        assert values(text, "shop_took_seconds_bucket")["2.0",] == self.asked.total()


@contextmanager
def shop(
    directory: Path, text: str = WEB, env: dict[str, str] | None = None, services: int = 2, ends: bool = True
) -> Iterator[Shop]:
    (directory / "run").mkdir(exist_ok=True)
    places = {"XDG_RUNTIME_DIR": str(directory / "run"), "TMPDIR": str(directory / "run")}
    with operated(text, directory, services=services, env={**places, **(env or {})}, ends=ends) as run:
        yield Shop(run)


def homes(directory: Path) -> list[Path]:
    return list((directory / "run").glob("hybrid-metrics-*"))


def seats(directory: Path, kind: str = "counter") -> set[str]:
    return {path.stem.removeprefix(f"{kind}_") for path in directory.glob(f"{kind}_*.db")}


@pytest.mark.parametrize("loop", ["epoll", "gevent"])
@pytest.mark.parametrize("preload", ["on", "off"])
def test_counts_are_exact_over_kills_and_reloads(tmp_path: Path, loop: str, preload: str) -> None:
    with shop(tmp_path, f'{WEB}loop = "{loop}"\npreload = "{preload}"\n') as web:
        web.asks()
        web.asks(1, "/?7")
        web.asks(1, "/?3")
        for _ in range(3):
            web.kills()
            web.asks()
            web.reloads()
            web.asks()
        web.asked["/"] += web.asked.pop("/?7") + web.asked.pop("/?3")
        web.assert_exact()
        assert web.read("shop_most") == {(): 7}
        # at a reload there are at most an old and a new worker in each slot, and two zygotes
        assert len(seats(web.directory())) <= 6
    assert homes(tmp_path) == []


@pytest.mark.parametrize("preload", ["on", "off"])
def test_live_gauges_count_the_living_only(tmp_path: Path, preload: str) -> None:
    with shop(tmp_path, f'{WEB}preload = "{preload}"\n') as web:
        web.hears_all()
        assert web.read("shop_here") == {(): 2}
        web.kills()
        assert web.read("shop_here") == {(): 1}
        web.hears_all()
        assert web.read("shop_here") == {(): 2}
        web.reloads()
        assert web.read("shop_here") == {(): 0}


def test_recycled_workers_leave_no_more_files_than_the_living_have(tmp_path: Path) -> None:
    with shop(tmp_path, f"{WEB}max_requests = 5\nrecycle_jitter = 0\n") as web:
        totals: list[float] = []
        stop = threading.Event()

        def scrape() -> None:
            while not stop.is_set():
                totals.append(sum(web.read("shop_done_total").values()))

        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            pids: set[int] = set()
            eventually(lambda: pids.update(pid for pid, _ in web.asks(10)) or len(pids) > MANY, "so many served", 60)
        finally:
            stop.set()
            thread.join()
        assert totals == sorted(totals)
        web.assert_exact()
        assert "left out" not in web.run.process.stderr
        assert len(seats(web.directory())) <= 2 + 2 + 1  # each with its successor, and the zygote


def test_a_worker_that_becomes_the_zygote_leaves_its_live_gauges(tmp_path: Path) -> None:
    with shop(tmp_path, f'{WEB}refork_after = 60\npreload = "on"\n') as web:
        eventually(lambda: web.asks(1) and "refork complete" in web.run.process.stderr, "it has reforked")
        web.settles()
        web.hears_all()
        assert web.read("shop_here") == {(): 2}
        web.assert_exact()


def test_an_upgrade_goes_on_counting(tmp_path: Path) -> None:
    with shop(tmp_path, ends=False) as web:
        web.asks()
        home = homes(tmp_path)
        pid = web.line.result("upgrade")["pid"]
        eventually(lambda: not web.run.process.is_running(), "the predecessor has ended")
        web.line = web.run.connects()
        eventually(lambda: ask(web.admin, "/livez").status == 200, "the successor answers")
        web.asks()
        web.assert_exact()
        assert homes(tmp_path) == home
        assert {name.partition("-")[0] for name in seats(web.directory())} == {"0", "1"}
        again = web.line.result("upgrade")["pid"]
        eventually(lambda: not processes.is_alive(pid), "the second has ended too")
        web.line = web.run.connects()
        eventually(lambda: ask(web.admin, "/livez").status == 200, "the third answers")
        web.asks()
        web.assert_exact()
        assert {name.partition("-")[0] for name in seats(web.directory())} == {"0", "1"}
        os.kill(again, signal.SIGTERM)
        eventually(lambda: not processes.is_alive(again), "the third has ended")
    assert homes(tmp_path) == []


def test_two_services_are_told_apart(tmp_path: Path) -> None:
    text = WEB + WEB.partition("\n[")[2].replace("service.web", "[service.chat", 1)
    with shop(tmp_path, text, services=3) as web:
        web.asks(3)
        web.web = web.port("chat")
        web.asks(2)
        assert web.read("shop_done_total") == {("/", "web"): 3, ("/", "chat"): 2}
        assert web.text().count("# TYPE shop_done counter") == 1


def test_companions_count_too(tmp_path: Path) -> None:
    with shop(tmp_path, f'{WEB}[service.web.companion.mailer]\ntarget = "metered:mailer"\n') as web:
        eventually(lambda: web.read("shop_done_total").get(("/mail",)), "the companion has counted")


def test_forks_of_a_handler_count_by_their_pids(tmp_path: Path) -> None:
    with shop(tmp_path) as web:
        web.asks(2, "/forked")
        found = web.read("shop_done_total")
        assert found == {("/forked",): 2, ("/fork",): 2}
        assert sum(name.isdigit() for name in seats(web.directory())) == 2


def test_a_broken_file_does_not_break_the_scrape(tmp_path: Path) -> None:
    with shop(tmp_path) as web:
        web.asks(3, "/broken")
        for _ in range(2):
            web.assert_exact()
        assert web.run.process.stderr.count("counter_broken.db cannot be read") == 1


def test_the_users_directory_is_used_and_stays(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    with shop(tmp_path, env={"PROMETHEUS_MULTIPROC_DIR": str(chosen)}) as web:
        assert web.directory() == chosen
        web.assert_exact()
    assert seats(chosen)
    with shop(tmp_path, env={"PROMETHEUS_MULTIPROC_DIR": str(chosen)}) as web:
        web.asked["/"] = 1  # counted before
        web.asks(2)
        web.assert_exact()


def test_switched_off_there_is_no_directory_and_no_variable(tmp_path: Path) -> None:
    with shop(tmp_path, f"{WEB}admin_app_metrics = false\n") as web:
        assert web.directory() == Path("-")
        assert "shop_done" not in web.text()
        assert homes(tmp_path) == []


def test_a_directory_that_a_killed_supervisor_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "run" / "hybrid-metrics-left"
    left.mkdir(parents=True)
    with shop(tmp_path):
        assert not left.exists()
        assert len(homes(tmp_path)) == 1
