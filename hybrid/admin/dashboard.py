"""The routes of the dashboard: its page and files, and what the page asks for."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, Final

from hybrid.admin import html
from hybrid.admin.access import Need
from hybrid.admin.assets import as_page, assets, page
from hybrid.admin.feed import Feed
from hybrid.admin.history import History
from hybrid.admin.journal import Journal
from hybrid.admin.line import Line
from hybrid.admin.messages import Request, Response, as_json, text
from hybrid.admin.routing import Route
from hybrid.admin.sampler import Sampler
from hybrid.admin.settings import AdminSettings
from hybrid.admin.snapshot import Snapshot, snapshot_of
from hybrid.control.errors import RequestError

_ANSWER: Final = 5.0  # seconds for an answer
EVENTS: Final = "text/event-stream; charset=utf-8"


class Dashboard:
    """The dashboard. Belongs to one loop."""

    def __init__(self, settings: AdminSettings, line: Line) -> None:
        """Reads the files of the page."""
        self._settings = settings
        self._line = line
        self._history = History()
        self._journal = Journal()
        self._feed = Feed()
        self._sampler = Sampler(line, self._history, self._journal, self._publish)
        self._page = string.Template(page("index.html"))
        self._login = string.Template(page("login.html"))
        self.routes: Mapping[str, Route] = {
            "/": Route(self._overview),
            "/live": Route(self._live),
            "/history.json": Route(self._past),
            "/stacks.json": Route(self._stacks),
            "/events.json": Route(self._events),
            "/blockers.json": Route(self._blockers),
            "/labels.json": Route(self._labels),
            **{path: Route(asset.answer, Need.NOTHING) for path, asset in assets().items()},
        }

    def start(self) -> None:
        """Begin to sample; once the line is open."""
        self._sampler.start()

    async def stop(self) -> None:
        """End."""
        await self._sampler.stop()

    def login(self, status: int = 401, reason: str = "") -> Response:
        """Return the page that asks for the token."""
        return as_page(self._login.substitute(reason=reason), status, www_authenticate='Bearer realm="hybrid"')

    def _publish(self, status: Mapping[str, Any]) -> None:
        if self._feed.pages:
            self._feed.publish(self._snapshot(status))

    def _snapshot(self, status: Mapping[str, Any]) -> Snapshot:
        settings = self._settings
        return snapshot_of(
            status, self._history, self._journal.newest, settings.configuration, may_act=settings.may_act
        )

    async def _overview(self, request: Request) -> Response:
        snapshot = self._snapshot(await self._sampler.newest())
        return as_page(html.render(self._page, snapshot, self._journal.after()))

    async def _live(self, request: Request) -> Response:
        if self._feed.is_full:
            return text(503, f"{self._feed.pages} pages are open, and there may be no more", retry_after="10")
        if not self._feed.pages:
            self._feed.publish(self._snapshot(await self._sampler.newest()))
        return Response(200, EVENTS, self._feed.stream(request.gone))

    async def _past(self, request: Request) -> Response:
        """Answer with the history of all services, or of one worker."""
        service, slot = request.query.get("service"), _slot(request)
        names = [one["name"] for one in (await self._sampler.newest())["services"]] if service is None else [service]
        found = {name: series for name in names if (series := self._history.series(name, slot)) is not None}
        if service is not None and not found:
            return text(404, "there is no history of it")
        return as_json({"times": self._history.times(), "series": found})

    async def _stacks(self, request: Request) -> Response:
        return as_json(
            await self._line.ask("stacks", _ANSWER, service=request.query.get("service"), slot=_slot(request))
        )

    async def _events(self, request: Request) -> Response:
        """Answer with the events after the one of that number, newest first."""
        after = request.query.get("after", "0")
        entries = self._journal.after(int(after) if after.isdecimal() and len(after) < 16 else 0)
        return as_json({"newest": self._journal.newest, "events": [entry.as_json() for entry in entries]})

    async def _blockers(self, request: Request) -> Response:
        return as_json(await self._line.ask("blockers", _ANSWER, service=request.query.get("service")))

    async def _labels(self, request: Request) -> Response:
        return as_json(await self._line.ask("labels", _ANSWER, service=request.query.get("service")))


def _slot(request: Request) -> int | None:
    """Return the slot in the query. Raises `RequestError`."""
    given = request.query.get("slot")
    if given is None:
        return None
    if not (given.isdecimal() and len(given) < 6):
        raise RequestError("bad_request", "slot is a number")
    return int(given)
