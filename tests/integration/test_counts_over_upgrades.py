"""Counts over upgrades: they go on from the workers of one supervisor to those of the next, and never backwards.

So do the number of workers and the log level that were set while a supervisor ran.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import processes
from support.operated import Line, Operated, operated
from support.process import DEADLINE
from support.service import eventually

SHOP = """
[service.web]
target = "counting:asgi"
bind = "127.0.0.1:0"
workers = 2
min_body_rate = 0
"""
"""A request may wait for the rest of its body as long as an upgrade takes."""


GATED = """
[service.web]
target = "counting:asgi"
bind = "127.0.0.1:0"
workers = 2

[service.late]
target = "gated:handle"
bind = "127.0.0.1:0"
workers = 1
"""
"""The second service waits at a gate, so an upgrade takes as long as the test wants."""
LEVELED = GATED.replace("counting", "leveled")


def ask(port: int, connection: http.client.HTTPConnection | None = None) -> None:
    """Send a request, on a connection that stays open if there is one."""
    one = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    one.request("GET", "/")
    assert one.getresponse().read()
    if connection is None:
        one.close()


def status(shop: Operated) -> dict[str, Any]:
    """Return the status of the supervisor that is in charge."""
    line = eventually(lambda: connected(shop), "somebody listens")
    with contextlib.closing(line):
        return line.result("status")


def connected(shop: Operated) -> Line | None:
    """Return a connection; None while one supervisor has closed its socket and the next one does not listen yet."""
    try:
        return Line(str(shop.control))
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def is_in_charge(shop: Operated, pid: int) -> bool:
    """Return True if this supervisor answers."""
    line = connected(shop)
    if line is None:
        return False
    with contextlib.closing(line):
        return bool(line.greeting["pid"] == pid)


def web(shop: Operated) -> dict[str, Any]:
    """Return the status of the service."""
    found: dict[str, Any] = status(shop)["services"][0]
    return found


def body(port: int, path: str = "/") -> bytes:
    """Send a request; return the answer."""
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(one):
        one.request("GET", path)
        return one.getresponse().read()


class Gate:
    """A FIFO at which a service waits while it is loaded."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "gate"
        os.mkfifo(self.path)

    def open(self) -> None:
        """Let those pass that wait, and all who come while somebody waits."""
        with self.path.open("wb"):  # returns once one waits
            pass


@contextlib.contextmanager
def gated(tmp_path: Path, text: str = GATED, **options: Any) -> Iterator[tuple[Operated, Gate, int]]:
    """Run the services of `text`, of which one has passed the gate; the last value is the port of the other one."""
    gate = Gate(tmp_path)
    opener = threading.Thread(target=gate.open)
    opener.start()
    with operated(text, tmp_path, services=2, env={"GATE": str(gate.path)}, **options) as shop:
        opener.join(DEADLINE)
        yield shop, gate, int(web(shop)["addresses"][0].rpartition(":")[2])


def begins_upgrade(shop: Operated, line: Line) -> int:
    """Ask for an upgrade, and wait until the late service of the successor is at the gate; return the pid."""
    mark = shop.mark()
    line.sends("upgrade")
    shop.process.wait_for_log("at the gate", since=mark)
    return int(shop.process.wait_for_log(r"upgrading: supervisor (\d+) is starting", since=mark).group(1))


def answered(service: dict[str, Any]) -> int:
    """Return the responses of class 2xx."""
    return sum(one["responses"]["2xx"] for one in (*service["workers"], *service["past"]))


def has_restarted(service: dict[str, Any]) -> bool:
    """Return True once the death is counted, and its successor serves."""
    return bool(service["counts"]["deaths"] == {"SIGKILL": 1} and service["ready"] == 2)


def in_flight(service: dict[str, Any]) -> int:
    """Return the requests in progress."""
    return sum(one["in_flight"] or 0 for one in service["workers"])


def requests(service: dict[str, Any]) -> int:
    """Return the requests of all slots."""
    return sum(one["requests"] for one in (*service["workers"], *service["past"]))


def offloads(port: int) -> None:
    """Send a request that makes an offloaded call."""
    assert body(port, "/closure?4").startswith(b"12 ")


def calls(service: dict[str, Any]) -> int:
    """Return the offloaded calls that have returned."""
    return int(service["offload"]["pools"][0]["calls"]["done"])


def ready_sidecar(shop: Operated) -> dict[str, Any] | None:
    """Return the status of the process of --admin; None while it starts."""
    (found,) = [one for one in status(shop)["services"] if one["is_sidecar"]]
    return found if found["ready"] and found["counts"]["starts"] == 2 else None


def upgraded(shop: Operated) -> int:
    """Upgrade; return the pid of the successor, which serves, and answers operators."""
    pid = int(shop.connects().result("upgrade")["pid"])
    eventually(lambda: is_in_charge(shop, pid), "the successor is in charge")
    return pid


def ends(pid: int) -> None:
    """Stop a successor, which is no child of ours."""
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not processes.is_alive(pid), "the successor has ended")


def test_counts_go_on_over_two_upgrades(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, ends=False) as shop:
        port = int(web(shop)["addresses"][0].rpartition(":")[2])
        for _ in range(20):
            ask(port)
        eventually(lambda: requests(web(shop)) == 20, "all are counted")
        first = upgraded(shop)
        assert requests(web(shop)) == 20
        eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
        for _ in range(20):
            ask(port)
        eventually(lambda: requests(web(shop)) == 40, "all are counted")
        second = upgraded(shop)
        eventually(lambda: not processes.is_alive(first), "the predecessor has ended")
        assert requests(web(shop)) == 40
        ends(second)


def test_offloaded_calls_are_counted_over_an_upgrade(tmp_path: Path) -> None:
    text = SHOP.replace("counting:asgi", "offloading:app") + "offload_workers = 1\n"
    with operated(text, tmp_path, ends=False) as shop:
        port = int(web(shop)["addresses"][0].rpartition(":")[2])
        offloads(port)
        eventually(lambda: calls(web(shop)) == 1, "it is counted")
        seconds = web(shop)["offload"]["pools"][0]["seconds"]
        successor = upgraded(shop)
        eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
        assert calls(web(shop)) == 1
        assert web(shop)["offload"]["pools"][0]["seconds"] == seconds
        offloads(port)
        eventually(lambda: calls(web(shop)) == 2, "both are counted")
        ends(successor)


def test_deaths_and_reloads_before_an_upgrade_are_counted_after_it(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, ends=False) as shop:
        line = shop.connects()
        line.result("reload")
        os.kill(web(shop)["workers"][0]["pid"], signal.SIGKILL)
        eventually(lambda: has_restarted(web(shop)), "a successor serves")
        before = web(shop)["counts"]
        since = status(shop)["since"]
        successor = upgraded(shop)
        after = web(shop)["counts"]
        assert status(shop)["since"] == since
        assert (after["deaths"], after["reloads"]) == (before["deaths"], before["reloads"])
        assert after["starts"] == before["starts"] + 2
        assert before["starts_by"] == {**before["starts_by"], "start": 2, "reload": 2, "death": 1, "upgrade": 0}
        assert after["starts_by"] == {**before["starts_by"], "upgrade": 2}
        ends(successor)


def test_the_process_of_admin_starts_in_a_successor_for_the_upgrade(tmp_path: Path) -> None:
    """It may be ready only after the services, when the predecessor has ended already."""
    with operated(f'admin = "unix:{tmp_path}/admin"\n{SHOP}', tmp_path, services=2, ends=False) as shop:
        successor = upgraded(shop)
        sidecar = eventually(lambda: ready_sidecar(shop), "the process of --admin is ready")
        assert sidecar is not None
        assert (sidecar["counts"]["starts_by"]["start"], sidecar["counts"]["starts_by"]["upgrade"]) == (1, 1)
        ends(successor)


def test_what_a_draining_predecessor_counts_is_seen_by_its_successor(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, ends=False) as shop:
        port = int(web(shop)["addresses"][0].rpartition(":")[2])
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        with contextlib.closing(kept):
            kept.request("GET", "/", headers={"X-Kept": "1"})
            kept.getresponse().read()
            kept.putrequest("POST", "/")
            kept.putheader("Content-Length", "2")
            kept.endheaders(b"a")  # a request in progress: its worker drains, and waits for it
            eventually(lambda: in_flight(web(shop)) == 1, "it has begun")
            successor = upgraded(shop)
            seen = requests(web(shop))
            assert seen >= 1
            kept.send(b"b")
            assert kept.getresponse().read()
        eventually(lambda: answered(web(shop)) == 2, "both are counted")
        eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
        assert web(shop)["counts"]["deaths"] == {}
        ends(successor)


def test_a_supervisor_that_outlives_its_successor_still_counts(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, ends=False) as shop:
        port = int(web(shop)["addresses"][0].rpartition(":")[2])
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        with contextlib.closing(kept):
            kept.putrequest("POST", "/")
            kept.putheader("Content-Length", "2")
            kept.endheaders(b"a")  # the worker of the first supervisor drains, and waits for the rest
            eventually(lambda: in_flight(web(shop)) == 1, "it has begun")
            second = upgraded(shop)
            ask(port)
            third = upgraded(shop)
            eventually(lambda: not processes.is_alive(second), "the second has ended")
            assert shop.process.is_running()
            kept.send(b"b")
            assert kept.getresponse().read()
        eventually(lambda: not shop.process.is_running(), "the first has ended too")
        assert (answered(web(shop)), status(shop)["pid"]) == (2, third)
        ends(third)


def test_what_a_successor_counted_that_failed_is_kept(tmp_path: Path) -> None:
    with gated(tmp_path) as (shop, _, port):
        ask(port)
        line = shop.connects()
        ours = [worker["pid"] for worker in web(shop)["workers"]]
        successor = begins_upgrade(shop, line)
        for pid in ours:
            os.kill(pid, signal.SIGSTOP)
        for _ in range(5):
            ask(port)  # so the workers of the successor answer
        for pid in ours:
            os.kill(pid, signal.SIGCONT)
        ends(successor)
        eventually(lambda: answered(web(shop)) == 6, "all are counted")


def test_scaling_by_a_signal_is_refused_during_an_upgrade(tmp_path: Path) -> None:
    with gated(tmp_path) as (shop, _, _):
        successor = begins_upgrade(shop, shop.connects())
        mark = shop.mark()
        os.kill(shop.process.pid, signal.SIGTTIN)
        shop.process.wait_for_log("not scaling: an upgrade is in progress", since=mark)
        assert web(shop)["wanted"] == 2
        ends(successor)


def test_a_log_level_set_before_an_upgrade_stays(tmp_path: Path) -> None:
    text = SHOP.replace("counting", "leveled")
    with operated(text, tmp_path, ends=False) as shop:
        port = int(web(shop)["addresses"][0].rpartition(":")[2])
        shop.connects().result("loglevel", level="debug")
        successor = upgraded(shop)
        eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
        eventually(lambda: body(port) == b"10", "its workers have the level")
        ends(successor)


def test_a_log_level_set_during_an_upgrade_stays(tmp_path: Path) -> None:
    with gated(tmp_path, LEVELED, ends=False) as (shop, gate, port):
        line = shop.connects()
        successor = begins_upgrade(shop, line)
        shop.connects().result("loglevel", level="warning")
        gate.open()
        eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
        eventually(lambda: body(port) == b"30", "the workers of the successor have the level")
        ends(successor)


def test_a_successor_that_is_stopped_before_it_serves_takes_nothing_over(tmp_path: Path) -> None:
    """Its late service ends without a start, which must not count as one."""
    with gated(tmp_path) as (shop, _, port):
        successor = begins_upgrade(shop, shop.connects())
        shop.process.wait_for_log(f"web pid={successor} serving with 2 workers")
        ends(successor)
        shop.process.wait_for_log("upgrade failed, this supervisor goes on")
        assert status(shop)["pid"] == shop.process.pid
        assert body(port)
