"""Answers that follow each other on one connection, read from a buffered file of it."""

from __future__ import annotations

from typing import BinaryIO


def read_body(reader: BinaryIO) -> bytes:
    """Read one answer of status 200; return its body. Raises `AssertionError` for anything else."""
    line = reader.readline()
    assert line == b"HTTP/1.1 200 OK\r\n", line
    fields = {}
    while (line := reader.readline()) != b"\r\n":
        name, colon, value = line.rstrip().partition(b": ")
        assert colon, line
        fields[name.lower()] = value
    if b"content-length" in fields:
        return _exactly(reader, int(fields[b"content-length"]))
    assert fields[b"transfer-encoding"] == b"chunked"
    parts = []
    while size := int(reader.readline(), 16):
        parts.append(_exactly(reader, size))
        assert reader.readline() == b"\r\n"
    assert reader.readline() == b"\r\n"
    return b"".join(parts)


def _exactly(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    assert len(data) == size, f"{len(data)} of {size} bytes"
    return data
