"""The demonstration over plain ASGI messages: pages, headers, allowed methods, the lifespan."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from support.asgi import Answer, Exchange, get
from support.rows import for_each

from hybrid.config.targets import DASHBOARD
from hybrid.demonstration import app as demo
from hybrid.demonstration.links import dashboard_url, has_link
from hybrid.workers import identity
from hybrid.workers.identity import Identity


@pytest.fixture
def evil_identity() -> Iterator[Identity]:
    """Be a worker of a service whose name is markup. `Service` refuses such a name; other code may set one."""
    before = identity.current()
    evil = Identity(service="<b>&", slot=3, generation=2, pid=4711, loop="epoll")
    identity.take(evil)
    yield evil
    identity.take(before)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SLOW", 0.0)


def test_the_page_names_the_worker_that_answered() -> None:
    answer = get(demo.handle, "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<strong>{os.getpid()}</strong>" in answer.text


def test_the_page_links_to_the_dashboard_of_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DASHBOARD, "127.0.0.1:9100")
    headers = {"host": "127.0.0.1:8000"}
    assert '<a href="http://127.0.0.1:9100/">' in get(demo.handle, "/", headers=headers).text


def test_the_page_has_no_such_link_without_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DASHBOARD, raising=False)
    assert "dashboard" not in get(demo.handle, "/", headers={"host": "127.0.0.1:8000"}).text.lower()


@for_each(
    ("admin", "host", "expected"),
    [
        ("127.0.0.1:9100", "127.0.0.1:8000", "http://127.0.0.1:9100/"),
        ("127.0.0.1:9100", "localhost", "http://127.0.0.1:9100/"),
        ("[::1]:9100", "localhost:8000", "http://[::1]:9100/"),
        ("127.0.0.1:9100", "shop.example:8000", None),
        ("127.0.0.1:9100", "", None),
        ("10.0.0.7:9100", "shop.example", "http://10.0.0.7:9100/"),
        ("admin.example:9100", "", "http://admin.example:9100/"),
        ("0.0.0.0:9100", "shop.example:8000", "http://shop.example:9100/"),
        ("[::]:9100", "[2001:db8::1]:8000", "http://[2001:db8::1]:9100/"),
        ("0.0.0.0:9100", "", None),
        ("0.0.0.0:9100", 'x"><script>', None),
        ("0.0.0.0:9100", "one@two", None),
    ],
)
def test_the_link_leads_where_the_browser_can_go(admin: str, host: str, expected: str | None) -> None:
    assert dashboard_url(admin, host) == expected


@pytest.mark.parametrize(
    ("admin", "expected"), [("127.0.0.1:9100", True), ("127.0.0.1:0", False), ("unix:/run/admin", False)]
)
def test_only_a_known_port_can_be_linked_to(admin: str, expected: bool) -> None:
    assert has_link(admin) is expected


def test_values_on_the_page_are_escaped(evil_identity: Identity) -> None:
    text = get(demo.handle, "/").text
    assert "<strong>&lt;b&gt;&amp;/3</strong>" in text
    assert evil_identity.service not in text


def test_no_placeholder_is_left_in_the_page() -> None:
    assert "$" not in get(demo.handle, "/").text


class Loaded(HTMLParser):
    """Collects the resources that a page loads, inline code that its policy would block, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.files += [
            value for name in ("src", "href") if (value := named.get(name)) and not value.startswith("data:")
        ]
        self.inline += [name for name in named if name.startswith("on") or name == "style"]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in named) else []
        self.ids += [value] if (value := named.get("id")) else []
        self.labels += [value for name in ("for", "aria-labelledby") if (value := named.get(name))]


@pytest.fixture
def loaded() -> Loaded:
    page = Loaded()
    page.feed(get(demo.handle, "/").text)
    return page


@pytest.mark.usefixtures("quick")
def test_all_resources_of_the_page_are_local_and_relative(loaded: Loaded) -> None:
    assert {"demo.js", "demo.css", "who"} <= set(loaded.files)
    assert not [file for file in loaded.files if file.startswith("/") or ":" in file]
    assert {get(demo.handle, f"/{file}", method="HEAD").status for file in loaded.files} == {200}


def test_the_page_needs_no_exception_from_its_policy(loaded: Loaded) -> None:
    assert not loaded.inline


def test_labels_and_the_script_name_elements_that_are_there(loaded: Loaded) -> None:
    used = re.findall(r'byId\("([^"]+)"\)', get(demo.handle, "/demo.js").text)
    assert used
    assert set(used) | set(loaded.labels) <= set(loaded.ids)
    assert len(loaded.ids) == len(set(loaded.ids))


@for_each("path", ["/", "/who", "/demo.js", "/demo.css", "/nowhere"])
def test_every_response_has_the_security_headers(path: str) -> None:
    headers = get(demo.handle, path).headers
    assert headers["content-security-policy"].startswith("default-src 'none';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@for_each("path", ["/", "/who", "/demo.js", "/demo.css", "/nowhere"])
def test_content_length_is_the_length_of_the_body(path: str) -> None:
    answer = get(demo.handle, path)
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["/", "/who", "/slow", "/events", "/demo.js", "/demo.css"])
def test_head_gets_only_the_headers(path: str) -> None:
    answer = get(demo.handle, path, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers.get("content-length") != "0"


@for_each("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_other_methods_get_405_with_allow(method: str) -> None:
    answer = get(demo.handle, "/who", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@for_each("path", ["/nowhere", "/who/", "//", "/../demo.py", "/demo.html", "/ws"])
def test_an_unknown_path_is_a_404(path: str) -> None:
    assert get(demo.handle, path).status == 404


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [("/app", "/app/who", 200), ("/app/", "/app/who", 200), ("/app", "/app", 200), ("/app", "/app/no", 404)],
)
def test_it_may_be_mounted_below_a_path(root: str, path: str, status: int) -> None:
    assert get(demo.handle, path, root_path=root).status == status


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["/who", "/slow"])
def test_who_tells_the_worker_and_closes_the_connection(path: str, evil_identity: Identity) -> None:
    answer = get(demo.handle, path)
    told = json.loads(answer.body)
    assert told.pop("answers") > 0
    assert told == {"service": "<b>&", "slot": 3, "generation": 2, "pid": 4711, "loop": "epoll"}
    assert answer.headers["connection"] == "close"


def test_answers_are_counted() -> None:
    first, second = (json.loads(get(demo.handle, "/who").body)["answers"] for _ in range(2))
    assert second == first + 1


def test_a_slow_answer_does_not_keep_others_waiting() -> None:
    """The second request arrives later and is answered first."""
    ended: list[str] = []

    async def request(path: str) -> Answer:
        answer = await Exchange(demo.handle, path).run()
        ended.append(path)
        return answer

    async def both() -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(request("/slow"), request("/who"))

    asyncio.run(both())
    assert ended == ["/who", "/slow"]


def test_the_lifespan_events_are_confirmed() -> None:
    questions = iter(["lifespan.startup", "lifespan.shutdown"])
    answers: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(questions)}

    async def send(message: Any) -> None:
        answers.append(message["type"])

    asyncio.run(demo.handle({"type": "lifespan"}, receive, send))
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_unknown_scope_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="no scope of type 'mail'"):
        asyncio.run(demo.handle({"type": "mail"}, None, None))  # type: ignore[arg-type]
