"""A status as text for Prometheus, in both of its forms.

Hybrid's own metrics are written here: the library takes 25 us for a sample, and this 2 (measured), of which a service
of 32 workers has 1,300. The library writes those of applications, and its parser reads all of it in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from hybrid.metrics.declarations import METRICS, Distribution, Kind, Metric, Sample, Status

_NAME: Final = "application/openmetrics-text"
OPENMETRICS: Final = f"{_NAME}; version=1.0.0"
"""The form that tells units; ask for it by `accept`."""
_PLAIN_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_TYPE: Final = f"{OPENMETRICS}; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Source(Protocol):
    """Metrics of others, such as those of the application."""

    def text(self, accept: str) -> tuple[str, bytes]:
        """Return the content type, which is one that `accept` asks for, and the text. May block for files."""


def render(status: Status, accept: str = OPENMETRICS, others: Source | None = None) -> tuple[str, bytes]:
    """Return the content type and the text of all metrics. Blocks and raises as `others` does.

    `accept`: the form that the reader wants, as in the header field `Accept`.
    """
    if others is None:
        is_openmetrics = any(one.partition(";")[0].strip() == _NAME for one in accept.split(","))
        content_type, more = (_OPENMETRICS_TYPE, b"# EOF\n") if is_openmetrics else (_PLAIN_TYPE, b"")
    else:
        content_type, more = others.text(accept)
        is_openmetrics = content_type.startswith(_NAME)
    return content_type, "".join(_lines(status, is_openmetrics=is_openmetrics)).encode() + more


def _lines(status: Status, *, is_openmetrics: bool) -> Iterator[str]:
    yield from _info(status, is_openmetrics=is_openmetrics)
    labels: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
    for metric in METRICS:
        # in OpenMetrics a counter is named without `_total`, but in its samples
        name = metric.name.removesuffix("_total") if is_openmetrics else metric.name
        yield f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind.value}\n"
        if is_openmetrics and metric.unit:
            yield f"# UNIT {name} {metric.unit}\n"
        for found in metric.read(status):
            key = metric.labels, found.labels
            if (pairs := labels.get(key)) is None:
                pairs = labels[key] = _pairs(metric, found)
            if isinstance(found, Distribution):
                yield from _distribution(metric.name, pairs, found)
            else:
                place = f"{{{pairs}}}" if pairs else ""
                yield f"{metric.name}{place} {float(found.value)!r}\n"


def _info(status: Status, *, is_openmetrics: bool) -> Iterator[str]:
    name, kind = ("hybrid", "info") if is_openmetrics else ("hybrid_info", Kind.GAUGE.value)
    pairs = ",".join(f'{key}="{_escaped(status[key])}"' for key in ("version", "python", "name"))
    yield f"# HELP {name} The supervisor.\n# TYPE {name} {kind}\nhybrid_info{{{pairs}}} 1.0\n"


def _pairs(metric: Metric, found: Sample | Distribution) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(metric.labels, found.labels, strict=True))


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _distribution(name: str, pairs: str, found: Distribution) -> Iterator[str]:
    """Yield the samples of a histogram, whose buckets are cumulative."""
    total = 0
    for bound, count in zip((*map(float, found.bounds), "+Inf"), found.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{pairs},le="{bound}"}} {float(total)!r}\n'
    yield f"{name}_count{{{pairs}}} {float(total)!r}\n{name}_sum{{{pairs}}} {float(found.sum)!r}\n"
