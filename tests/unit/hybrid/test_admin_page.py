"""The snapshot and the first HTML of the dashboard."""

from __future__ import annotations

import json
import re
import string
import types
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.control_peer import AT, program, service, status, worker

import hybrid.admin
from hybrid.admin import html
from hybrid.admin.assets import POLICY, as_page, assets, page
from hybrid.admin.history import History
from hybrid.admin.journal import Journal
from hybrid.admin.snapshot import CELLS, COLUMNS, snapshot_of

EVIL = "<img src=x onerror=alert(1)>\"'&"
PAGES = Path(hybrid.admin.__file__).with_name("pages")


def snapshot(
    *services: dict[str, Any],
    may_act: bool = False,
    configured: Mapping[str, Iterable[tuple[str, str]]] = types.MappingProxyType({}),
    **changes: Any,
) -> dict[str, Any]:
    """Return the snapshot of a status."""
    found, history = status(*services, **changes), History()
    history.take(found)
    return snapshot_of(found, history, 0, configured, may_act=may_act)


def rendered(shown: dict[str, Any], journal: Journal | None = None) -> str:
    """Return the first HTML."""
    return html.render(string.Template(page("index.html")), shown, (journal or Journal()).after())


class Seen(HTMLParser):
    """Collects the tags, the attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_first_html_has_the_numbers_of_the_moment() -> None:
    text = Seen(rendered(snapshot())).text
    for shown in ("shop", "serving", "web/0", "62%", "812", "88 MiB", "stalled", "shop/prices.py:88 in recompute"):
        assert shown in text


def test_a_worker_that_is_not_ready_says_why_unless_it_stalls() -> None:
    reason = {"not_ready": "the database is gone"}
    shown = snapshot(service(workers=[worker(0, **reason), worker(1, stalled=2.0, **reason), worker(2)]))
    details = [one["detail"] for one in shown["services"][0]["workers"]]
    assert details == ["not ready: the database is gone", "for 2.0 s", ""]


def test_no_text_of_others_becomes_markup() -> None:
    journal = Journal()
    journal.take({"event": "log", "level": "error", "text": EVIL, "at": AT, "service": EVIL})
    evil = service(
        EVIL, target=EVIL, addresses=[EVIL], failure=EVIL, phase=EVIL, loop=EVIL, depends=[EVIL],
        workers=[worker(0, state=EVIL, where=EVIL, stalled=2.0), worker(1, state=EVIL)],
    )  # fmt: skip
    seen = Seen(rendered(snapshot(evil, name=EVIL, phase=EVIL, version=EVIL), journal))
    assert "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name == "style"]
    assert seen.text.count(EVIL) >= 10


def test_a_placeholder_in_a_text_stays_a_text() -> None:
    assert "$services" in Seen(rendered(snapshot(service("web", target="$services")))).text


def test_the_page_has_nothing_that_its_policy_forbids() -> None:
    for name in ("index.html", "login.html"):
        seen = Seen(page(name))
        files = [
            value for key, value in seen.attributes if key in ("src", "href") and not value.startswith(("#", "data:"))
        ]
        assert {f"/{file}" for file in files} <= assets().keys()
        assert "style" not in seen.tags
        assert "script" not in re.findall(r"<(script)>", page(name))


def test_the_scripts_put_no_text_into_markup_and_load_only_files_that_there_are() -> None:
    for file in PAGES.glob("*.js"):
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            file
        )
        assert {f"/assets/{name}" for name in re.findall(r'from "\./([^"]+)"', text)} <= assets().keys()
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_every_file_is_served() -> None:
    files = {file.name for file in PAGES.iterdir()} - {"index.html", "login.html"}
    assert {f"/assets/{name}" for name in files} == assets().keys()


def test_the_table_of_the_script_is_that_of_the_html() -> None:
    text = (PAGES / "overview.js").read_text()
    found = re.findall(r'\["(\w+)", "([^"]+)"\]', text)
    assert found == list(zip(("name", "state", "busy", *CELLS), COLUMNS, strict=True))


def test_a_response_of_html_has_the_policy() -> None:
    assert as_page("").headers["content-security-policy"] == POLICY


def test_a_snapshot_is_json_and_sidecars_come_last() -> None:
    shown = snapshot(service("admin", is_sidecar=True), service(), program(), may_act=True)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert [one["name"] for one in shown["services"]] == ["web", "mail", "admin"]
    assert [[tile["key"] for tile in one["tiles"]] for one in shown["services"]] == [
        ["rate", "latency", "busy", "queue", "memory"],
        ["memory"],
        [],
    ]


def test_offloaded_calls_have_a_tile_once_there_was_one() -> None:
    calls = {"pool": "cpu", "running": 2, "waiting": 1}
    before, after = (
        snapshot(service(offload={"pools": [{**calls, "has_started": has_started}]}))["services"][0]["tiles"][-1]
        for has_started in (False, True)
    )
    assert before["key"] == "memory"
    assert (after["key"], after["text"], after["more"]) == ("offload", "2 running", "1 waiting")


def test_options_that_were_set_follow_those_that_the_status_tells() -> None:
    configured = {"web": (("workers", "auto"), ("keep_alive_timeout", "30s"))}
    (web,) = snapshot(service(), configured=configured)["services"]
    found = dict(web["configuration"])
    assert (found["workers"], web["configuration"][-1]) == ("2", ["keep_alive_timeout", "30s"])


def test_the_tile_of_offloaded_calls_tells_of_each_pool_that_has_started() -> None:
    pools = [
        {"pool": "cpu", "running": 2, "waiting": 1, "has_started": True},
        {"pool": "ml", "running": 1, "waiting": 5, "has_started": True},
        {"pool": "pdf", "running": 0, "waiting": 0, "has_started": False},
    ]
    tile = snapshot(service(offload={"pools": pools}))["services"][0]["tiles"][-1]
    assert (tile["text"], tile["more"]) == ("3 running", "cpu: 2 running, 1 waiting; ml: 1 running, 5 waiting")


@pytest.mark.parametrize(
    ("changes", "phase"),
    [({}, "serving"), ({"is_reloading": True}, "reloading"), ({"phase": "stopping", "is_reloading": True}, "stopping")],
)
def test_a_reload_is_a_phase(changes: dict[str, Any], phase: str) -> None:
    assert snapshot(service(**changes))["services"][0]["phase"] == phase


def test_reasons_why_it_is_not_ready_are_shown() -> None:
    assert snapshot(service(workers=[]))["reasons"] == ["web: 0 workers serve, 1 must"]


def test_a_service_that_has_ended_is_shown_without_workers() -> None:
    ended = service(
        kind="", target="", loop="", interface="", addresses=[], ready_min=0, max_connections=0, backlog=0, workers=[],
        phase="failed", failure="it dies",
    )  # fmt: skip
    text = Seen(rendered(snapshot(ended))).text
    assert "No workers." in text
    assert "it dies" in text


def test_a_snapshot_of_a_thousand_workers_stays_small() -> None:
    shown = snapshot(service(workers=[worker(slot) for slot in range(1000)]))
    assert len(json.dumps(shown, separators=(",", ":"))) < 350_000
