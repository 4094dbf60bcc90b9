"""What the process of --admin is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The configuration of the admin process; can be pickled."""

    token: str | None = field(default=None, repr=False)
    """The secret for all but the probes; None: everyone who can connect may look."""
    may_act: bool = False
    """True if the dashboard may reload, scale and restart."""
    otel_endpoint: str | None = None
    """The OpenTelemetry collector that gets the metrics; None: none."""
    otel_interval: float = 60.0
    """Seconds between two times that it gets them."""
    configuration: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """Service -> the options that are not the defaults, key and text, without secrets."""
