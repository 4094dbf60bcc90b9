"""An OpenTelemetry collector: takes metrics by OTLP over HTTP, and keeps what was sent."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics


class Received(NamedTuple):
    """One request."""

    path: str
    headers: Mapping[str, str]
    resources: tuple[ResourceMetrics, ...]

    def resource(self, service: str) -> ResourceMetrics:
        """Return what was sent of a service."""
        return next(one for one in self.resources if attributes_of(one.resource)["service.name"] == service)

    def metric(self, service: str, name: str) -> Metric:
        """Return a metric of a service."""
        return next(one for one in self.metrics(service) if one.name == name)

    def metrics(self, service: str) -> Sequence[Metric]:
        """Return the metrics of a service; one without a value is not there."""
        return self.resource(service).scope_metrics[0].metrics

    def total(self, service: str, name: str) -> float:
        """Return the sum of a counter over all points; 0 if it was not sent."""
        found = (one for one in self.metrics(service) if one.name == name)
        return sum(point.as_double for one in found for point in one.sum.data_points)


def attributes_of(of: Any) -> dict[str, str]:
    """Return the attributes of a resource, or of a point."""
    return {one.key: one.value.string_value for one in of.attributes}


class Collector:
    """The requests of a collector, and how it answers the next ones."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.status = 200
        """The status of its answers."""
        self.location: str | None = None
        """Where its answers redirect to; None: they have no such field."""
        self.is_endless = False
        """True: the body of its answers has no end."""
        self.may_answer = threading.Event()
        """While it is clear, requests wait."""
        self.may_answer.set()
        self.port = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        """One connection."""

        def do_POST(self) -> None:
            """Take a request."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = ExportMetricsServiceRequest.FromString(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.requests.append(Received(self.path, headers, tuple(found.resource_metrics)))
            collector.may_answer.wait()
            self.send_response(collector.status)
            if collector.location is not None:
                self.send_header("Location", collector.location)
            if not collector.is_endless:
                self.send_header("Content-Length", "0")
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has closed
                while collector.is_endless:
                    self.wfile.write(bytes(1 << 16))

        def do_GET(self) -> None:
            """Answer as a page, which takes no metrics."""
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            """Log nothing."""

    class Server(http.server.ThreadingHTTPServer):
        """The server; its threads end with their connections."""

        daemon_threads = False

    with Server(("127.0.0.1", 0), Handler) as server:
        collector.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            collector.may_answer.set()
            server.shutdown()
            thread.join()
