"""The options of `hybrid run` about how workers come, stall and are renewed."""

from __future__ import annotations

import click

from hybrid.cli.headings import DEFAULTS, Heading
from hybrid.cli.values import MaxRestarts
from hybrid.config.life import PRELOADS

_stalls = Heading.STALLS
_renewal = Heading.RENEWAL

OPTIONS = [
    _renewal.option(
        "--preload",
        "Import TARGET once per generation, in a process from which the workers are forked: they share its memory, and "
        "start at once. auto: unless the import leaves threads, connections or event loops, which do not survive a "
        "fork; the log says what was found. off: each worker imports TARGET.",
        type=click.Choice(PRELOADS),
        default=DEFAULTS["preload"],
    ),
    _renewal.count(
        "--surge",
        "How many extra workers may be starting at a time while others are replaced, by a reload (HUP) or one of the "
        "limits below.",
    ),
    _renewal.count(
        "--refork-after",
        "Make the process from which workers are forked anew, of the first worker that has served so many requests "
        "(connections or datagrams of handlers): caches that it has filled and modules that it has imported meanwhile "
        "are shared by all workers then. Again in each generation. 0: never. No effect with --preload off.",
    ),
    _renewal.count(
        "--max-requests",
        "Replace a worker that has served so many requests; connections or datagrams of handlers. 0: never.",
    ),
    _renewal.duration("--max-lifetime", "Replace a worker of this age. 0: never."),
    _renewal.size("--max-memory", "Replace a worker that holds so much memory (resident). 0: never."),
    _renewal.option(
        "--recycle-jitter",
        "Each worker draws its own limits, up to this fraction above those given, so that not all are replaced at "
        "once.",
        type=float,
        default=DEFAULTS["recycle_jitter"],
        metavar="FRACTION",
    ),
    _renewal.option(
        "--max-restarts",
        "End the service when more workers than N have died within SECONDS, e.g. 5/10. 0: never; those that keep dying "
        "are restarted with pauses.",
        type=MaxRestarts(),
        default="0",
        metavar="N/SECONDS",
    ),
    _stalls.duration(
        "--stall-threshold",
        "A worker whose event loop has not turned for so long gets no new connections until it does, and other workers "
        "accept those that wait for it. 0: never.",
    ),
    _stalls.duration("--stall-report", "After so long the stack of a stalled worker is logged. 0: never."),
    _stalls.duration("--stall-timeout", "After so long a stalled worker is killed and replaced. 0: never."),
]
