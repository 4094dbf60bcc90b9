"""The dashboard of --admin over HTTP: the page and its files, the stream, what it asks for, and its actions."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.operated import Operated, operated
from support.process import DEADLINE
from support.service import eventually

TOKEN = "0123456789abcdef"
SHOP = """
admin = "127.0.0.1:0"
[service.web]
target = "counting:asgi"
bind = "127.0.0.1:0"
workers = 2
"""
ACTING = f"admin_actions = true\n{SHOP}"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {**BEARER, "Content-Type": "application/json"}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    text: str


def serves(shop: Operated) -> int:
    """Wait until the admin process serves; return its port."""
    found = shop.process.wait_for_log(r"admin pid=\d+ reachable at http://127\.0\.0\.1:(\d+)")
    shop.process.wait_for_log(r"admin/0 .* ready on epoll")
    return int(found[1])


def ask(port: int, path: str, method: str = "GET", body: str | None = None, headers: Any = None) -> Answer:
    """Send a request to the admin process."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read().decode())


class Page:
    """A page that is open: reads the stream."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        self._connection.request("GET", "/live")
        self.response = self._connection.getresponse()

    def shows(self) -> dict[str, Any] | None:
        """Wait for the next snapshot; None at the end of the stream."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                found: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                return found
        return None

    def close(self) -> None:
        """Leave."""
        self.response.close()
        self._connection.close()


@contextlib.contextmanager
def pages(port: int, count: int = 1) -> Iterator[list[Page]]:
    """Open pages."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(Page(port))
            stack.callback(found[-1].close)
        yield found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Operated]:
    with operated(SHOP, tmp_path, services=2) as found:
        yield found


@pytest.fixture
def acting(tmp_path: Path) -> Iterator[Operated]:
    with operated(ACTING, tmp_path, services=2, env={"HYBRID_ADMIN_TOKEN": TOKEN}) as found:
        yield found


def test_the_page_has_the_workers_and_may_load_its_own_files_only(shop: Operated) -> None:
    port = serves(shop)
    answer = ask(port, "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert "web/0" in answer.text
    assert "web/1" in answer.text
    for path in re.findall(r'(?:href|src)="(assets/[^"]+)"', answer.text):
        assert ask(port, f"/{path}").status == 200


def test_a_browser_that_has_a_file_is_told_so(shop: Operated) -> None:
    port = serves(shop)
    first = ask(port, "/assets/app.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = ask(port, "/assets/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.text) == (304, "")
    assert ask(port, "/assets/../app.py").status == 404
    assert ask(port, "/assets/index.html").status == 404


def test_a_page_gets_a_snapshot_at_once_and_then_each_second(shop: Operated) -> None:
    with pages(serves(shop)) as (page,):
        assert page.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        first, second = page.shows(), page.shows()
        assert first is not None
        assert second is not None
        assert [one["name"] for one in second["services"]] == ["web", "admin"]
        assert second["at"] > first["at"]


def test_a_death_is_seen_and_remembered(shop: Operated) -> None:
    port = serves(shop)
    with pages(port) as (page,):
        while (before := page.shows()) is not None and not all(one["pid"] for one in before["services"][0]["workers"]):
            pass
        assert before is not None
        pid = before["services"][0]["workers"][0]["pid"]
        os.kill(pid, signal.SIGKILL)

        def is_seen() -> bool:
            shown = page.shows()
            return shown is not None and pid not in [one["pid"] for one in shown["services"][0]["workers"]]

        eventually(is_seen, "the page shows the successor")
    found = json.loads(ask(port, f"/events.json?after={before['event']}").text)
    assert f"web/0 died: SIGKILL (pid {pid})" in [one["text"] for one in found["events"]]


def test_there_is_a_history_before_anyone_looks(shop: Operated) -> None:
    port = serves(shop)

    def past() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask(port, "/history.json").text)
        return found

    eventually(lambda: len(past()["times"]) >= 2, "two moments are kept")
    found = past()
    assert set(found["series"]) == {"web", "admin"}
    assert len(found["series"]["web"]["memory"]) == len(found["times"])
    of_one = json.loads(ask(port, "/history.json?service=web&slot=1").text)
    assert of_one["series"]["web"]["memory"][-1] > 1_000_000
    assert ask(port, "/history.json?service=none").status == 404


def test_stacks_blockers_and_labels_are_those_of_the_supervisor(shop: Operated) -> None:
    port = serves(shop)
    found = json.loads(ask(port, "/stacks.json?service=web&slot=1").text)["workers"]
    assert [(one["service"], one["slot"]) for one in found] == [("web", 1)]
    assert json.loads(ask(port, "/blockers.json").text) == {"blockers": []}
    assert json.loads(ask(port, "/labels.json").text) == {"labels": []}
    for query in ("service=none", "service=web&slot=x", "service=web&slot=99"):
        assert ask(port, f"/stacks.json?{query}").status == 400


def test_there_are_so_many_pages_and_no_more(shop: Operated) -> None:
    port = serves(shop)
    with pages(port, 64) as opened:
        assert {page.response.status for page in opened} == {200}
        assert all(page.shows() is not None for page in opened)
        refused = ask(port, "/live")
        assert (refused.status, refused.headers["retry-after"]) == (503, "10")
        assert ask(port, "/livez").status == 200

    def has_room() -> bool:
        with pages(port) as (page,):
            return page.response.status == 200

    eventually(has_room, "pages that were closed make room")


def test_streams_end_when_the_process_drains_and_do_not_delay_the_stop(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, services=2, ends=False) as shop:
        with pages(serves(shop)) as (page,):
            assert page.shows() is not None
            shop.process.signal(signal.SIGTERM)
            while page.shows() is not None:
                pass
        assert shop.process.wait() == 0
        assert "did not end within the grace period" not in shop.process.stderr


def test_without_the_token_the_page_asks_for_it(acting: Operated) -> None:
    port = serves(acting)
    answer = ask(port, "/")
    assert answer.status == 401
    assert 'type="password"' in answer.text
    assert "web/0" not in answer.text
    assert ask(port, "/assets/style.css").status == 200
    for path in ("/live", "/history.json", "/events.json", "/blockers.json", "/labels.json", "/stacks.json"):
        assert ask(port, path).status == 401
    assert ask(port, "/", headers=BEARER).status == 200


def test_an_action_tells_its_progress_and_its_end(acting: Operated) -> None:
    port = serves(acting)
    for name, given, result in (
        ("reload", {"service": "web"}, {"services": {"web": {"generation": 2}}}),
        ("scale", {"service": "web", "by": 1}, {"service": "web", "workers": 3}),
    ):
        answer = ask(port, f"/actions/{name}", "POST", json.dumps(given), JSON)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines[-1] == {"result": result}
        assert all("progress" in line for line in lines[:-1])
        assert len(lines) > 1
    answer = ask(port, "/actions/restart", "POST", json.dumps({"service": "web", "slot": 0}), JSON)
    assert json.loads(answer.text.splitlines()[-1])["result"]["slot"] == 0


def test_an_action_that_is_refused_tells_why(acting: Operated) -> None:
    port = serves(acting)
    answer = ask(port, "/actions/reload", "POST", json.dumps({"service": "none"}), JSON)
    assert "there is no service 'none'" in json.loads(answer.text)["error"]
    for body in ("", "[]", "{}", json.dumps({"service": "web", "timeout": 1})):
        assert ask(port, "/actions/reload", "POST", body, JSON).status == 400
    assert ask(port, "/actions/reload", "POST", "{}", BEARER).status == 415
    assert ask(port, "/actions/reload", headers=BEARER).status == 405
    evil = {**JSON, "Origin": "http://evil.example"}
    assert ask(port, "/actions/reload", "POST", json.dumps({"service": "web"}), evil).status == 403
    assert ask(port, "/actions/reload", "POST", json.dumps({"service": "web"})).status == 401


def test_without_admin_actions_nothing_can_be_changed(shop: Operated) -> None:
    port = serves(shop)
    answer = ask(port, "/actions/reload", "POST", json.dumps({"service": "web"}), {"Content-Type": "application/json"})
    assert answer.status == 403
    assert "--admin-actions" in answer.text
