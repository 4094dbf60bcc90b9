"""The options of other servers, as their `--help` lists them.

The versions are gunicorn 27, uvicorn 0.54, hypercorn 0.18 and granian 2.8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final


@dataclasses.dataclass(frozen=True)
class Server:
    """A server and the form of its command line."""

    name: str
    attribute: str
    """The attribute of a target that names only a module."""
    takes_value: frozenset[str]
    """Options with a value, by their long names."""
    flags: frozenset[str]
    """Options without one."""
    short: Mapping[str, str]
    """Another name -> the long name."""


def _options(text: str) -> frozenset[str]:
    return frozenset(f"--{word}" for word in text.split())


GUNICORN: Final = Server(
    "gunicorn",
    "application",
    _options(
        "config bind backlog workers worker-class threads worker-connections max-requests max-requests-jitter timeout "
        "graceful-timeout keep-alive limit-request-line limit-request-fields limit-request-field_size reload-engine "
        "reload-extra-file chdir env pid worker-tmp-dir user group umask forwarded-allow-ips access-logfile "
        "access-logformat error-logfile log-level logger-class log-config log-config-json log-syslog-to "
        "log-syslog-prefix log-syslog-facility statsd-host dogstatsd-tags statsd-prefix name pythonpath paste "
        "proxy-allow-from protocol uwsgi-allow-from keyfile certfile ssl-version cert-reqs ca-certs ciphers "
        "http-protocols http2-cleartext http2-max-concurrent-streams http2-initial-window-size http2-max-frame-size "
        "http2-max-header-list-size paste-global forwarder-headers header-map asgi-loop asgi-lifespan "
        "asgi-disconnect-grace-period websocket-max-message-size http-parser root-path dirty-app dirty-workers "
        "dirty-timeout dirty-threads dirty-graceful-timeout control-socket control-socket-mode"
    ),
    _options(
        "reload spew check-config print-config preload no-sendfile reuse-port daemon initgroups capture-output "
        "disable-redirect-access-to-syslog log-syslog enable-stdio-inheritance enable-backlog-metric proxy-protocol "
        "suppress-ragged-eofs do-handshake-on-connect permit-obsolete-folding strip-header-spaces "
        "permit-unconventional-http-method permit-unconventional-http-version casefold-http-method no-control-socket"
    ),
    {
        "-c": "--config",
        "-b": "--bind",
        "-w": "--workers",
        "-k": "--worker-class",
        "-t": "--timeout",
        "-D": "--daemon",
        "-e": "--env",
        "-p": "--pid",
        "-u": "--user",
        "-g": "--group",
        "-m": "--umask",
        "-R": "--enable-stdio-inheritance",
        "-n": "--name",
        "--log-file": "--error-logfile",
        "--paster": "--paste",
    },
)
UVICORN: Final = Server(
    "uvicorn",
    "app",
    _options(
        "host port uds fd reload-dir reload-include reload-exclude reload-delay workers loop http ws ws-max-size "
        "ws-max-queue ws-ping-interval ws-ping-timeout ws-per-message-deflate lifespan interface env-file log-config "
        "log-level forwarded-allow-ips root-path limit-concurrency backlog limit-max-requests "
        "limit-max-requests-jitter timeout-keep-alive timeout-graceful-shutdown timeout-worker-healthcheck ssl-keyfile "
        "ssl-certfile ssl-keyfile-password ssl-version ssl-cert-reqs ssl-ca-certs ssl-ciphers header app-dir "
        "h11-max-incomplete-event-size"
    ),
    _options(
        "reload http2 access-log no-access-log use-colors no-use-colors proxy-headers no-proxy-headers server-header "
        "no-server-header date-header no-date-header reset-contextvars factory"
    ),
    {},
)
HYPERCORN: Final = Server(
    "hypercorn",
    "app",
    _options(
        "access-logfile access-logformat backlog bind ca-certs certfile cert-reqs ciphers config error-logfile "
        "graceful-timeout read-timeout max-requests max-requests-jitter group worker-class keep-alive keyfile "
        "keyfile-password insecure-bind log-config log-level pid quic-bind root-path server-name statsd-host "
        "statsd-prefix umask user verify-mode websocket-ping-interval workers"
    ),
    _options("daemon debug reload"),
    {
        "-b": "--bind",
        "-c": "--config",
        "-D": "--daemon",
        "-g": "--group",
        "-k": "--worker-class",
        "-p": "--pid",
        "-m": "--umask",
        "-u": "--user",
        "-w": "--workers",
        "--access-log": "--access-logfile",
        "--error-log": "--error-logfile",
        "--log-file": "--error-logfile",
    },
)
GRANIAN: Final = Server(
    "granian",
    "app",
    _options(
        "host port uds uds-permissions interface http workers blocking-threads blocking-threads-idle-timeout "
        "runtime-threads runtime-blocking-threads runtime-mode loop task-impl backlog backpressure http1-buffer-size "
        "http1-header-read-timeout http2-initial-connection-window-size http2-initial-stream-window-size "
        "http2-keep-alive-interval http2-keep-alive-timeout http2-max-concurrent-streams http2-max-frame-size "
        "http2-max-headers-size http2-max-send-buffer-size log-level log-config access-log-fmt ssl-certificate "
        "ssl-keyfile ssl-keyfile-password ssl-protocol-min ssl-ca ssl-crl url-path-prefix respawn-interval "
        "rss-sample-interval rss-samples workers-lifetime workers-max-rss workers-kill-timeout working-dir env-files "
        "static-path-route static-path-mount static-path-dir-to-file static-path-expires metrics-scrape-interval "
        "metrics-address metrics-port reload-paths reload-ignore-dirs reload-ignore-patterns reload-ignore-paths "
        "reload-tick process-name pid-file"
    ),
    _options(
        "ws no-ws http1-keep-alive no-http1-keep-alive http1-pipeline-flush no-http1-pipeline-flush "
        "http2-adaptive-window no-http2-adaptive-window log no-log access-log no-access-log ssl-client-verify "
        "no-ssl-client-verify respawn-failed-workers no-respawn-failed-workers factory no-factory metrics no-metrics "
        "reload no-reload reload-ignore-worker-failure no-reload-ignore-worker-failure"
    ),
    {},
)
SERVERS: Final = {server.name: server for server in (GUNICORN, UVICORN, HYPERCORN, GRANIAN)}
