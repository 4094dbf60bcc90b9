"""The application of the admin process: finds the route of a request, checks whether the client may, and answers."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - `to_thread` imports it at its first call, when descriptors may be scarce
import functools
import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hybrid.admin.access import COOKIE, Denial, Need, cookie_of, denial, is_token
from hybrid.admin.actions import Actions
from hybrid.admin.dashboard import Dashboard
from hybrid.admin.exporting import Exporting, Sender
from hybrid.admin.health import why_not_ready
from hybrid.admin.line import Line
from hybrid.admin.messages import BodyTooLongError, Receive, Request, Response, Scope, Send, as_json, text
from hybrid.admin.routing import POSTS, Route
from hybrid.admin.settings import AdminSettings
from hybrid.console.safe import safe
from hybrid.control.errors import ControlError, RefusedError, RequestError
from hybrid.metrics.exposition import render
from hybrid.metrics.files import files_of

if TYPE_CHECKING:
    from hybrid.metrics.application import AppMetrics

_LIVE: Final = 2.0  # seconds within which a living supervisor answers
_ANSWER: Final = 5.0  # seconds for a status: it waits 50 ms for workers at most
logger = logging.getLogger("hybrid")


class Admin:
    """The ASGI application. It belongs to one loop, and has one connection to the supervisor."""

    def __init__(self, settings: AdminSettings, sock: socket.socket, metrics_home: str = "") -> None:
        """`sock`: a connection to the control line of the supervisor. `metrics_home`: see `files_of`."""
        self._metrics_home = metrics_home
        self._app_metrics: AppMetrics | None = None  # until there are some
        self._settings = settings
        self._line = Line(sock)
        self._dashboard = Dashboard(settings, self._line)
        self._exporting: Exporting | None = None
        self._routes: dict[str, Route] = {
            "/livez": Route(self._livez, Need.NOTHING),
            "/readyz": Route(self._readyz, Need.NOTHING),
            "/metrics": Route(self._metrics),
            "/status.json": Route(self._status),
            "/login": Route(self._login, Need.NOTHING, POSTS),
            **self._dashboard.routes,
            **Actions(self._line).routes,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of ASGI: the lifespan, or a request."""
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "http":
                request = Request(scope, receive)
                try:
                    response = await self._answer(request)
                except ConnectionError:  # the client has left within its request
                    return
                await response.send(send, is_head=request.method == "HEAD")
            case _:  # a WebSocket
                await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # the startup
        await self._line.open()
        self._dashboard.start()
        endpoint = self._settings.otel_endpoint
        if endpoint is not None:
            interval = self._settings.otel_interval
            make = functools.partial(_sender, endpoint, interval)
            self._exporting = Exporting(self._line, endpoint, interval, make)
            self._exporting.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()  # the shutdown
        if self._exporting is not None:
            await self._exporting.stop()
        await self._dashboard.stop()
        await self._line.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            shown = sorted(path for path in self._routes if not path.startswith(("/assets/", "/actions/")))
            return text(404, "there is nothing here; there are: " + ", ".join(shown))
        if request.method not in route.methods:
            return text(
                405, f"{request.path} takes {', '.join(sorted(route.methods))}", allow=", ".join(sorted(route.methods))
            )
        refusal = denial(route.need, self._settings, request.headers, request.cookies)
        if refusal is not None:
            is_page = request.path == "/" and refusal is Denial.TOKEN
            return self._dashboard.login() if is_page else _refused(refusal)
        try:
            return await route.handler(request)
        except BodyTooLongError:
            return text(413, "the body is too long")
        except RefusedError as error:
            return text(403, str(error))
        except RequestError as error:
            return text(400, str(error))
        except ControlError as error:
            return text(503, str(error))

    # --- probes

    async def _livez(self, request: Request) -> Response:
        """Answer 200 if the supervisor answers; never depends on workers."""
        await self._line.ask("ping", _LIVE)
        return text(200, "ok")

    async def _readyz(self, request: Request) -> Response:
        """Answer 200 if each service has workers enough that serve, and nothing stops."""
        status = await self._line.ask("status", _LIVE, fresh=False)
        reasons = why_not_ready(status)
        if not reasons:
            return text(200, "ok")
        # reasons are texts of the application, too: they are for those who may look
        may_look = denial(Need.LOOK, self._settings, request.headers, request.cookies) is None
        if "verbose" not in request.query or not may_look:
            return text(503, "not ready")
        return text(503, "\n".join(map(safe, reasons)))

    # --- numbers

    async def _metrics(self, request: Request) -> Response:
        status = {**await self._line.ask("status", _ANSWER), **await self._line.ask("labels", _ANSWER)}
        try:
            content_type, body = await asyncio.to_thread(self._exposed, status, request.headers.get("accept", ""))
        except OSError as error:
            return text(503, f"the metrics cannot be read: {error.strerror}")
        return Response(200, content_type, body)

    def _exposed(self, status: Mapping[str, Any], accept: str) -> tuple[str, bytes]:
        """Return content type and text; in a thread, because it reads files: probes go on. Raises `OSError`."""
        files = files_of(status, self._metrics_home)
        if not files:
            return render(status, accept)
        if self._app_metrics is None:
            from hybrid.metrics.application import AppMetrics  # see there

            self._app_metrics = AppMetrics()
        return render(status, accept, self._app_metrics.of(files))

    async def _status(self, request: Request) -> Response:
        service = request.query.get("service") or None
        return as_json(await self._line.ask("status", _ANSWER, service=service))

    # --- access

    async def _login(self, request: Request) -> Response:
        """Turn the token into a cookie."""
        try:
            given = str((await request.fields()).get("token", ""))
        except ValueError:
            return text(400, "give the token as a form or as JSON")
        if not is_token(given, self._settings):
            await asyncio.sleep(_WRONG)
            return self._dashboard.login(reason="This is not the token.")
        secure = "; Secure" if request.scheme == "https" else ""
        cookie = f"{COOKIE}={cookie_of(given)}; HttpOnly; SameSite=Strict; Path=/{secure}"
        return Response(303, headers={"location": "/", "set-cookie": cookie})


def _sender(endpoint: str, interval: float) -> Sender:
    from hybrid.metrics import otlp  # needs packages that most installations do not have, and 0.2 s

    return otlp.Sender(endpoint, interval)


_WRONG: Final = 0.5  # seconds before a wrong token is refused


def _refused(why: Denial) -> Response:
    match why:
        case Denial.TOKEN:
            return text(401, why.value, www_authenticate='Bearer realm="hybrid"')
        case Denial.HOST:
            return text(421, why.value)
        case _:
            return text(403, why.value)
