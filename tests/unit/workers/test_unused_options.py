"""Options that the kind of the target ignores."""

from __future__ import annotations

from support.rows import for_each

from hybrid.workers.apps.detect import Kind
from hybrid.workers.apps.unused_options import unused_options
from hybrid.workers.boot.application import Application
from hybrid.workers.http.settings import HttpSettings, Limits

MUCH = Application(
    http=HttpSettings(
        limits=Limits(max_headers=7, websocket_max_size=1),
        server_header=False,
        root_path="/x",
        forwarded_allow_ips=("*",),
        forwarded_headers="forwarded",
        forwarded_host=True,
        access_log="common",
        threads=0,
        lifespan="on",
        pathsend=True,
    ),
    max_connections=5,
)
FOR_WEB = {
    *("--no-server-header", "--root-path", "--forwarded-allow-ips", "--access-log", "--threads", "--lifespan"),
    *("--max-headers", "--websocket-max-size", "--forwarded-headers", "--forwarded-host", "--pathsend"),
}


@for_each(
    ("kind", "options"),
    [
        (Kind.ASGI, {"--threads"}),
        (Kind.WSGI, {"--lifespan", "--websocket-max-size", "--pathsend"}),
        (Kind.SYNC_STREAM, FOR_WEB),
        (Kind.PROTOCOL, FOR_WEB),
        (Kind.ASYNC_DATAGRAM, {*FOR_WEB, "--max-connections"}),
    ],
)
def test_options_that_a_kind_ignores_are_named(kind: Kind, options: set[str]) -> None:
    found = unused_options(kind, MUCH)
    assert sorted(found) == sorted(options)


@for_each("kind", Kind)
def test_defaults_are_not_named(kind: Kind) -> None:
    assert unused_options(kind, Application()) == []


@for_each(
    ("kind", "has_effect"),
    [
        (Kind.ASGI, True),
        (Kind.WSGI, True),
        (Kind.SYNC_STREAM, True),
        (Kind.ASYNC_STREAM, True),
        (Kind.PROTOCOL, False),
        (Kind.ASYNC_DATAGRAM, False),
    ],
)
def test_accounting_is_for_kinds_whose_requests_run_in_something_of_their_own(kind: Kind, has_effect: bool) -> None:
    assert ("--accounting" not in unused_options(kind, Application(accounting=True))) is has_effect


def test_a_label_header_is_for_web_applications() -> None:
    application = Application(accounting=True, http=HttpSettings(label_header="X-Route"))
    assert unused_options(Kind.SYNC_STREAM, application) == ["--label-header"]
    assert unused_options(Kind.ASGI, application) == []
