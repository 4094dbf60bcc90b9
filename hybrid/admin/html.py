"""The first HTML of the dashboard, with the numbers of the moment: it is whole without JavaScript. Pure.

Names of services, lines of code and texts of the log are untrusted: all text is escaped here, and nowhere else.
"""

from __future__ import annotations

import html
import string
import time
from collections.abc import Sequence
from typing import Any, Final

from hybrid.admin.journal import Entry
from hybrid.admin.snapshot import CELLS, COLUMNS, Snapshot

_MOST_EVENTS: Final = 40  # in the first HTML; the script asks for all


def render(template: string.Template, snapshot: Snapshot, events: Sequence[Entry]) -> str:
    """Return the page; `template`: pages/index.html."""
    return template.substitute(
        name=_text(snapshot["name"]),
        state=_state(snapshot),
        facts="".join(f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>" for key, value in snapshot["facts"]),
        services="\n".join(map(_service, snapshot["services"])),
        events="\n".join(map(_event, events[:_MOST_EVENTS])),
        configuration="\n".join(map(_configuration, snapshot["services"])),
    )


def _state(snapshot: Snapshot) -> str:
    ready = "ready" if snapshot["ready"] else "not ready"
    tone = "good" if snapshot["ready"] else "bad"
    return f'<span class="chip" data-tone="{tone}">{_text(snapshot["phase"])}, {ready}</span>'


def _service(service: Snapshot) -> str:
    name = _text(service["name"])
    about = "".join(f"<li>{_text(one)}</li>" for one in service["about"])
    tiles = "".join(map(_tile, service["tiles"]))
    failure = f'<p class="failure">{_text(service["failure"])}</p>' if service["failure"] else ""
    return (
        f'<section class="service card" aria-label="Service {name}"><header class="head"><h2>{name}</h2>'
        f'{_chip(service["phase"])}<ul class="about">{about}</ul></header>{failure}'
        + (f'<dl class="tiles">{tiles}</dl>' if tiles else "")
        + _table(service)
        + "</section>"
    )


def _chip(phase: str) -> str:
    tone = {"serving": "good", "failed": "bad"}.get(phase, "warning")
    return f'<span class="chip" data-tone="{tone}">{_text(phase)}</span>'


def _tile(tile: dict[str, str]) -> str:
    more = f'<span class="more">{_text(tile["more"])}</span>' if tile["more"] else ""
    return (
        f'<div class="tile" data-key="{_text(tile["key"])}"><dt>{_text(tile["title"])}</dt>'
        f"<dd>{_text(tile['text'])}{more}</dd></div>"
    )


def _table(service: Snapshot) -> str:
    if not service["workers"]:
        return '<p class="empty">No workers.</p>'
    heads = "".join(
        f'<th scope="col" data-cell="{cell}">{_text(column)}</th>'
        for cell, column in zip(("name", "state", "busy", *CELLS), COLUMNS, strict=True)
    )
    rows = "".join(map(_row, service["workers"]))
    caption = f'<caption class="unseen">Workers of {_text(service["name"])}</caption>'
    return f'<table class="workers">{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(worker: dict[str, Any]) -> str:
    where = f'<code class="where">{_text(worker["where"])}</code>' if worker["where"] else ""
    detail = f' <span class="detail">{_text(worker["detail"])}</span>' if worker["detail"] else ""
    cells = "".join(
        f'<td data-cell="{cell}">{_text(text)}</td>' for cell, text in zip(CELLS, worker["cells"], strict=True)
    )
    return (
        f'<tr data-state="{_text(worker["state"])}"><th scope="row" data-cell="name">{_text(worker["name"])}</th>'
        f'<td data-cell="state"><span class="state">{_text(worker["state"])}</span>{detail}{where}</td>'
        f'<td data-cell="busy">{_bar(worker["busy"])}<span>{_text(worker["busy_text"])}</span></td>{cells}</tr>'
    )


def _bar(busy: float | None) -> str:
    width = round(min(max(busy or 0.0, 0.0), 1.0) * 100)
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="6"/><rect class="fill" width="{width}" height="6"/></svg>'
    )


def _event(entry: Entry) -> str:
    when = time.strftime("%H:%M:%S", time.gmtime(entry.at))
    return f'<li data-tone="{entry.tone.value}"><time>{when} UTC</time><span>{_text(entry.text)}</span></li>'


def _configuration(service: Snapshot) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(key)}</th><td>{_text(value)}</td></tr>' for key, value in service["configuration"]
    )
    return f"<div><h3>{_text(service['name'])}</h3><table>{rows}</table></div>"


def _text(value: object) -> str:
    return html.escape(str(value))
