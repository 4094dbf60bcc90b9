"""The metrics as OpenTelemetry has them, and their way to a collector, by OpenTelemetry's own library.

A family becomes a monotonic sum (counter), a gauge or a histogram of the same name, with the same labels as attributes.
Each service is a resource of its own.
"""

from __future__ import annotations

import collections
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtelMetric
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hybrid.metrics.declarations import METRICS, Distribution, Kind, Metric, Sample, Status

_PATH: Final = "/v1/metrics"
_UNITS: Final = {"": "", "seconds": "s", "bytes": "By"}  # of a metric -> UCUM
_SERVICE: Final = "service"  # the label that a resource has as well
_MILLISECOND: Final = 1_000_000  # nanoseconds; a status has no finer times
_TIMEOUT: Final = 10.0  # seconds, as the specification has it
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_REDIRECT: Final = 300  # the first status of those that redirect
_REFUSAL: Final = 400  # the first status behind them
_MOST_REASON: Final = 300  # characters
_MOST_BODY: Final = 1 << 16  # bytes of an answer that are read
_ALL: Final = ""  # the service of samples that are of the supervisor

Point = Sample | Distribution


def url_of(endpoint: str) -> str:
    """Return where metrics are sent to, for the address of a collector: its path for metrics is added."""
    return endpoint.rstrip("/").removesuffix(_PATH) + _PATH


class Sender:
    """Sends statuses to a collector. Belongs to one thread, but for the constructor."""

    def __init__(self, endpoint: str, interval: float) -> None:
        """`endpoint`: the address of a collector, with or without `/v1/metrics`. `interval`: seconds between statuses.

        Headers, certificates, compression and the timeout are those of the variables `OTEL_EXPORTER_OTLP_...`. Without
        one, the library tries no longer than an interval: the next status has all that this one has. The library's own
        log is kept for the reasons that `send` returns.
        """
        timeout = None if any(os.environ.get(name) for name in _TIMEOUTS) else min(_TIMEOUT, interval)
        self._session = _Session()
        self._exporter = OTLPMetricExporter(endpoint=url_of(endpoint), timeout=timeout, session=self._session)
        self._complaints = _Complaints()
        theirs = logging.getLogger("opentelemetry")
        theirs.addHandler(self._complaints)
        theirs.propagate = False  # they would log each failure

    def send(self, status: Status) -> str | None:
        """Send the metrics of a status; return why that failed, or None. Blocks until it has, with the retries."""
        self._session.failure = self._complaints.first = ""
        try:
            result = self._exporter.export(metrics_data(status))
        except Exception as error:  # noqa: BLE001 - of another library; the next status may be sent
            return _short(self._session.failure or repr(error))
        if result is MetricExportResult.SUCCESS:
            return None
        return _short(self._session.failure or self._complaints.first) or "the reason is not known"

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


class _Session(requests.Session):
    """Keeps why the last request failed, which the library logs only if it tries again."""

    def __init__(self) -> None:
        super().__init__()
        self.failure = ""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request, as the base does, but follow no redirect. Raises `requests.RequestException`.

        The library takes a redirect for a success. If it is followed, most make a GET of the request: without the
        metrics, but any page may answer it with 200.
        """
        try:
            response = super().send(request, **{**options, "allow_redirects": False, "stream": True})
            _skip_body(response)
        except Exception as error:
            if options["timeout"] or not self.failure:  # 0: the library woke too late for this attempt
                self.failure = _cause_of(error)
            raise
        self.failure = "" if response.ok else f"it answers {response.status_code} {response.reason}"
        if _REDIRECT <= response.status_code < _REFUSAL:
            self.failure = f"it answers {response.status_code} {response.reason}"
            if (where := response.headers.get("Location")) is not None:
                self.failure += f": its place is {where}"
            raise requests.RequestException(self.failure, response=response)
        return response


def _skip_body(response: requests.Response) -> None:
    """Drop the body of an answer, which says nothing that is needed; a short one is read, to keep the connection."""
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) <= _MOST_BODY:
        response.raw.read(_MOST_BODY)
    response.close()
    response._content = b""  # otherwise it would be read when the library asks for the text


def _cause_of(error: BaseException) -> str:
    """Return the text of the system's error behind one of the library, if there is one."""
    text, behind = str(error), error.__cause__ or error.__context__
    while behind is not None:
        if isinstance(behind, OSError) and behind.strerror:
            text = behind.strerror
        behind = behind.__cause__ or behind.__context__
    return text


class _Complaints(logging.Handler):
    """Keeps the first line of a log: it has the cause, and those after it tell of more attempts."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


def _short(text: str) -> str:
    return " ".join(text.split())[:_MOST_REASON].rstrip(", ")


# --- the adapter


def metrics_data(status: Status) -> MetricsData:
    """Return the metrics of a status: cumulative since the counts began, at the time of the status."""
    since, now = (round(status[key] * 1000) * _MILLISECOND for key in ("since", "at"))
    families = {metric.name: (metric, _by_service(metric, status)) for metric in METRICS}
    scope = InstrumentationScope("hybrid", status["version"])
    found = []
    for resource, services in _resources(status).items():
        metrics = [
            _converted(metric, points, since, now)
            for metric, by_service in families.values()
            if (points := [point for name in (*services, _ALL) for point in by_service.get(name, ())])
        ]
        found.append(ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], ""))
    return MetricsData(found)


def _resources(status: Status) -> Mapping[Resource, list[str]]:
    """Return each resource with its services; several have the same one if the environment names them alike."""
    from_environment = OTELResourceDetector().detect()
    host, since = os.uname().nodename, round(status["since"] * 1000)
    found: dict[Resource, list[str]] = collections.defaultdict(list)
    for name in (service["name"] for service in status["services"]):
        ours = Resource(
            {
                "service.name": name,
                "service.namespace": status["name"],
                # neither a new supervisor nor a new process that exports begins other series
                "service.instance.id": f"{name}@{host}-{since}",
                "host.name": host,
            }
        )
        found[ours.merge(from_environment)].append(name)
    return found


def _by_service(metric: Metric, status: Status) -> Mapping[str, list[Point]]:
    """Return the points of a metric by service; those without one are of all of them."""
    found: dict[str, list[Point]] = collections.defaultdict(list)
    place = metric.labels.index(_SERVICE) if _SERVICE in metric.labels else None
    for point in metric.read(status):
        found[_ALL if place is None else point.labels[place]].append(point)
    return found


def _converted(metric: Metric, points: Iterable[Point], since: int, now: int) -> OtelMetric:
    cumulative = AggregationTemporality.CUMULATIVE
    match metric.kind:
        case Kind.COUNTER:
            data: Sum | Gauge | Histogram = Sum(list(_numbers(metric, points, since, now)), cumulative, True)
        case Kind.GAUGE:
            data = Gauge(list(_numbers(metric, points, since, now)))
        case Kind.HISTOGRAM:
            data = Histogram(list(_distributions(metric, points, since, now)), cumulative)
    return OtelMetric(metric.name, metric.help, _UNITS[metric.unit], data)


def _numbers(metric: Metric, points: Iterable[Point], since: int, now: int) -> Iterator[NumberDataPoint]:
    for point in points:
        assert isinstance(point, Sample)
        yield NumberDataPoint(_attributes(metric, point), since, now, float(point.value))


def _distributions(metric: Metric, points: Iterable[Point], since: int, now: int) -> Iterator[HistogramDataPoint]:
    unknown: Any = None  # neither the shortest nor the longest is counted; the protocol lets them out
    for point in points:
        assert isinstance(point, Distribution)
        count, attributes = sum(point.counts), _attributes(metric, point)
        yield HistogramDataPoint(
            attributes, since, now, count, point.sum, point.counts, point.bounds, min=unknown, max=unknown
        )


def _attributes(metric: Metric, point: Point) -> dict[str, str]:
    pairs = zip(metric.labels, point.labels, strict=True)
    return {label: value for label, value in pairs if value}  # an empty label is none
