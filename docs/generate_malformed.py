"""Writes `docs/strictness.md` from the tables that the tests run: `python docs/generate_malformed.py`.

A test compares the file with what this would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

FILE = Path(__file__).with_name("strictness.md")
sys.path.append(str(FILE.parents[1] / "tests"))

from support import malformed  # noqa: E402 - found by the line above
from support.malformed import Malformed, Odd  # noqa: E402

_GROUPS = {
    "Where a body ends": malformed.FRAMING,
    "Chunks and trailers": malformed.CHUNKS,
    "Request lines": malformed.LINES,
    "Header fields": malformed.FIELDS,
    "Limits": malformed.SIZES,
}
_HEAD = """\
<!-- Written by docs/generate_malformed.py; edit tests/support/malformed.py instead. -->

# Strictness

Request smuggling needs two programs that parse a request differently. So a request that does not follow the standards
exactly is refused: with an error, `Connection: close`, and nothing after it is read. No application gets any of
the {count} requests below whole, nor a good one that follows it. If a body turns out to be malformed while an
application reads it, that application is told that its client has disconnected (`http.disconnect`, an error of
`wsgi.input`).

The tests send each over sockets to a WSGI and an ASGI application on every loop, and to the connection alone in one
piece and in small ones, down to single bytes. The limits are the default ones; the limit for bodies is {body:,} bytes
here, and off by default. Line ends are shown as `\\r\\n`, 20 times the letter a as `a{{20}}`. If good requests precede
the malformed one, the status is the last response's.

Fields with an underscore in their name and the field `Proxy` are dropped before an application sees them, unless
`--underscore-headers` passes the former on. Trailers are checked and dropped.
"""
_SERVED = """\
## Odd, but served

These {count} are unusual but valid: the application gets them. The response repeats method, target and body.
"""
_MOST = 160  # characters of a request that are shown


def render() -> str:
    """Return the whole text of the page."""
    lines = [_HEAD.format(count=len(malformed.MALFORMED), body=malformed.MAX_BODY)]
    for heading, rows in _GROUPS.items():
        lines += [f"## {heading}\n", *_refused(rows), ""]
    lines += [_SERVED.format(count=len(malformed.ODD)), *_served(malformed.ODD)]
    return "\n".join(lines) + "\n"


def _refused(rows: Iterable[Malformed]) -> Iterator[str]:
    yield "| case | request | response | reason |"
    yield "|---|---|---|---|"
    for row in rows:
        end = " (end of stream)" if row.ends else ""
        yield f"| {_text(row.name)} | {_code(row.request)}{end} | {row.status} | {_text(row.why)} |"


def _served(rows: Iterable[Odd]) -> Iterator[str]:
    yield "| case | request | the application gets | reason |"
    yield "|---|---|---|---|"
    for row in rows:
        got = ", ".join(_code(seen.rstrip(b" ")) for seen in row.seen)
        yield f"| {_text(row.name)} | {_code(row.request)} | {got} | {_text(row.why)} |"


def _text(text: str) -> str:
    """Return text as it stands in a cell."""
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)


def _code(data: bytes) -> str:
    """Return bytes as code in a cell: escaped, repetitions and ends cut."""
    for repeated in (rb"(.)\1{19,}", rb"([^\r\n]*\r\n)\1{9,}"):  # bytes, then lines
        data = re.sub(repeated, _times, data, flags=re.DOTALL)
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    if len(text) > _MOST:
        text = text[:_MOST].rstrip("\\") + " ..."
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", r"\|")


def _times(run: re.Match[bytes]) -> bytes:
    once = run[1] if len(run[1]) == 1 else b"(%b)" % run[1]
    return b"%b{%d}" % (once, len(run[0]) // len(run[1]))


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
