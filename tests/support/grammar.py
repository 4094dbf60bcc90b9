"""A second reading of HTTP/1.1 requests, straight from the grammar, to hold against what a server has understood.

It is slow and knows nothing of limits, hosts or methods: what it refuses, no application may get.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/1\.([01])\r\n" % _TOKEN)
_FIELD = re.compile(rb"(%b):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n" % _TOKEN)
_CHUNK = re.compile(
    rb'([0-9A-Fa-f]+)(?:;%b(?:=(?:%b|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*"))?)*\r\n' % (_TOKEN, _TOKEN)
)
Fields = list[tuple[bytes, bytes]]


class Ambiguous(Exception):  # noqa: N818 - a verdict on the bytes, not an error of ours
    """What follows is no request, or not whole, or may be read in two ways."""


class Reading(NamedTuple):
    """One request as the grammar has it."""

    method: str
    target: bytes
    fields: Fields
    """Names in lower case, values without the space around them."""
    body: bytes


def read_requests(data: bytes) -> Iterator[Reading]:
    """Give each request, up to the first that is not right."""
    position = 0
    while True:
        while data.startswith(b"\r\n", position):
            position += 2
        try:
            reading, position, last = _request(data, position)
        except Ambiguous:
            return
        yield reading
        if last:
            return


def _request(data: bytes, position: int) -> tuple[Reading, int, bool]:
    line = _LINE.match(data, position)
    if line is None:
        raise Ambiguous
    fields, position = _fields(data, line.end())
    is_new = line[3] == b"1"
    hosts = _all(fields, b"host")
    if len(hosts) > 1 or (is_new and not hosts):
        raise Ambiguous
    body, position = _body(data, position, fields, is_new)
    words = {word.strip().lower() for value in _all(fields, b"connection") for word in value.split(b",")}
    reading = Reading(line[1].decode("ascii"), line[2], fields, body)
    return reading, position, b"close" in words or not (is_new or b"keep-alive" in words)


def _fields(data: bytes, position: int) -> tuple[Fields, int]:
    fields = []
    while not data.startswith(b"\r\n", position):
        field = _FIELD.match(data, position)
        if field is None:
            raise Ambiguous
        fields.append((field[1].lower(), field[2].strip(b" \t")))
        position = field.end()
    return fields, position + 2


def _all(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key == name]


def _body(data: bytes, position: int, fields: Fields, is_new: bool) -> tuple[bytes, int]:
    lengths, codings = _all(fields, b"content-length"), _all(fields, b"transfer-encoding")
    if codings:
        if lengths or not is_new or [coding.lower() for coding in codings] != [b"chunked"]:
            raise Ambiguous
        return _chunks(data, position)
    if not lengths:
        return b"", position
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise Ambiguous
    return _exactly(data, position, int(lengths[0]))


def _chunks(data: bytes, position: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line = _CHUNK.match(data, position)
        if line is None:
            raise Ambiguous
        size = int(line[1], 16)
        if not size:
            break
        part, position = _exactly(data, line.end(), size)
        if not data.startswith(b"\r\n", position):
            raise Ambiguous
        body += part
        position += 2
    return body, _fields(data, line.end())[1]


def _exactly(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    if len(data) - position < size:
        raise Ambiguous
    return data[position : position + size], position + size
