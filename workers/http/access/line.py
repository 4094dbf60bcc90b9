"""One line of the access log, in each of its forms. Pure.

    127.0.0.1 - - [23/Nov/2026:06:00:00 +0000] "GET /a?b HTTP/1.1" 200 13          common
    {"time":"2026-11-23T06:00:00.123Z","client":"127.0.0.1","port":4711, ...}      json

A line is ASCII and at most `LINE_LIMIT` characters long, so that a pipe takes it whole and never mixes it with those of
other workers (PIPE_BUF, pipe(7)). If it would be longer, its longest values are truncated and end with three dots.
"""

from __future__ import annotations

import json
import re
import select
import time
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as json_text

from hybrid.workers.http.access.record import ATOMS, VARIABLES, AccessRecord, Atom, field, quoted, sent_field, user

COMMON = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s'
"""The common log format of NCSA httpd and all its heirs."""
COMBINED = COMMON + ' "%(f)s" "%(a)s"'
"""Common, plus the referer and the user agent."""
LINE_LIMIT = select.PIPE_BUF - 1
"""Length of the longest line in characters, without its newline."""

_FORMS = {"common": COMMON, "combined": COMBINED}
_CAPS = (1024, 512, 256, 128, 64, 32)  # lengths that values are truncated to until the line fits
_LONGEST_FORM = 1024
_PLACE = re.compile(r"%(?:%|\((?:([A-Za-z])|\{([^{}]+)\}([ioe]))\)s)")

Formatter = Callable[[AccessRecord], str]


def check_format(form: str) -> None:
    """Raise `ValueError` with the reason if `form` is neither the name of a form nor a valid format string."""
    formatter(form)


def names_answer_fields(form: str) -> bool:
    """Return True if a form needs the head of the response."""
    return any(found[3] == "o" for found in _PLACE.finditer(form))


def formatter(form: str, labels: Mapping[str, object] | None = None) -> Formatter:
    """Return a function that formats a record as a line without its newline. That function raises nothing.

    `form` is `common`, `combined`, `json`, or a text with these places, gunicorn's except for %(X)s and %(R)s:

        %(h)s  the client's host                %(s)s  the status
        %(l)s  a dash                           %(B)s  bytes of the response body
        %(u)s  the user of Basic authentication %(b)s  the same, a dash for none
        %(t)s  [23/Nov/2026:06:00:00 +0000]     %(f)s  the referer
        %(r)s  method, target and protocol      %(a)s  the user agent
        %(m)s  the method                       %(T)s  seconds it took, whole ones
        %(U)s  the path, as sent                %(M)s  milliseconds it took
        %(q)s  the query                        %(D)s  microseconds it took
        %(H)s  the protocol                     %(L)s  seconds it took, with six decimals
        %(p)s  <process id>                     %(X)s  whole, refused, cut or gone: see `End`
        %(R)s  the id of the request            %%     a percent sign
        %({name}i)s, %({name}o)s                a header field of the request, of the response
        %({NAME}e)s                             a variable of the request: `VARIABLES` and HTTP_*

    A missing value is a dash. In values from clients or applications, quotes and backslashes get a backslash, control
    and non-ASCII characters become \\xNN (everything is read as Latin-1), and so do spaces in values that the common
    form does not quote. JSON has the keys time, client, port, user, scheme, host, method, target, version, status,
    bytes, seconds, end, referer and user_agent, null if nothing was sent, followed by `labels`; other forms do not
    contain labels. Raises `ValueError` for anything else in `form`.
    """
    if form == "json":
        return _json_formatter(labels or {})
    return _text_formatter(_FORMS.get(form, form))


def _text_formatter(form: str) -> Formatter:
    template, atoms = _parsed(form)

    def line(record: AccessRecord) -> str:
        values = [atom(record) for atom in atoms]
        text = template % tuple(values)
        return text if len(text) <= LINE_LIMIT else _cut(lambda cap: template % tuple(_short(v, cap) for v in values))

    return line


def _parsed(form: str) -> tuple[str, list[Atom]]:
    """Return a template for the % operator and the functions that fill its places."""
    if not form.isascii() or not form.isprintable() or not 0 < len(form) <= _LONGEST_FORM:
        raise ValueError(f"access log format {form!r}: only printable ASCII, at most {_LONGEST_FORM} characters")
    atoms: list[Atom] = []
    literals, place = [], 0
    for found in _PLACE.finditer(form):
        literals.append(form[place : found.start()])
        if found[0] != "%%":
            atoms.append(_atom(found[1], found[2], found[3]))
        literals.append("%%" if found[0] == "%%" else "%s")
        place = found.end()
    literals.append(form[place:])
    if stray := next((text for text in literals[::2] if "%" in text), None):
        raise ValueError(f"access log format: {stray[stray.index('%') :]!r} is not %(letter)s, %({{name}}i)s or %%")
    if not atoms:
        raise ValueError(f"access log format {form!r}: neither common, combined nor json, and no %(letter)s in it")
    return "".join(literals), atoms


def _atom(letter: str, name: str | None, kind: str) -> Atom:
    if name is None:
        if letter not in ATOMS:
            raise ValueError(f"access log format: unknown %({letter})s; known are {' '.join(ATOMS)}")
        return ATOMS[letter]
    if kind == "e":
        return _variable(name)
    key = name.lower().encode()
    if kind == "i":
        return lambda record: quoted(field(record.request_headers, key))
    return lambda record: quoted(sent_field(record.head, key))


def _variable(name: str) -> Atom:
    if name in VARIABLES:
        return VARIABLES[name]
    if not name.startswith("HTTP_"):
        raise ValueError(f"access log format: unknown variable {name!r}; known are HTTP_* and {' '.join(VARIABLES)}")
    key = name.removeprefix("HTTP_").lower().replace("_", "-").encode()
    return lambda record: quoted(field(record.request_headers, key))


def _json_formatter(labels: Mapping[str, object]) -> Formatter:
    stamp = _iso_stamped()
    end = "," + json.dumps(dict(labels), default=str)[1:] if labels else "}"

    def line(record: AccessRecord, longest: int | None = None) -> str:
        headers = record.request_headers
        host, port = record.client or (None, "null")
        return (
            f'{{"time":"{stamp(record)}","client":{_json(host, longest)},"port":{port}'
            f',"user":{_json(user(headers), longest)},"scheme":{_json(record.scheme)}'
            f',"host":{_json(field(headers, b"host"), longest)},"method":{_json(record.method or None, longest)}'
            f',"target":{_json(record.target.decode("latin-1") or None, longest)}'
            f',"version":{_json(record.version or None)},"status":{record.status or "null"}'
            f',"bytes":{record.sent},"seconds":{record.seconds:.6f},"end":"{record.end.value}"'
            f',"referer":{_json(field(headers, b"referer"), longest)}'
            f',"user_agent":{_json(field(headers, b"user-agent"), longest)}{_request_id(record)}{end}'
        )

    def fitting(record: AccessRecord) -> str:
        text = line(record)
        return text if len(text) <= LINE_LIMIT else _cut(lambda cap: line(record, cap))

    return fitting


def _request_id(record: AccessRecord) -> str:
    return "" if record.request_id is None else f',"request_id":{_json(record.request_id)}'


def _json(text: str | None, longest: int | None = None) -> str:
    if text is None:
        return "null"
    return json_text(text if longest is None else _short(text, longest))


def _iso_stamped() -> Formatter:
    """Return a formatter for a record's time: ISO 8601, UTC, milliseconds. The seconds are cached."""
    second, text = -1, ""

    def stamp(record: AccessRecord) -> str:
        nonlocal second, text
        now = int(record.time)
        if now != second:
            second, text = now, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        return f"{text}.{int((record.time - now) * 1000):03}Z"

    return stamp


def _short(text: str, cap: int) -> str:
    return text[:cap] + "..." if len(text) > cap else text


def _cut(line: Callable[[int], str]) -> str:
    """Return the longest line that fits; `line` formats the record with values truncated to a length."""
    for cap in _CAPS:
        text = line(cap)
        if len(text) <= LINE_LIMIT:
            return text
    return text[:LINE_LIMIT]
