"""The demonstration: what `hybrid run` serves when it is given no target.

An async stream handler that answers a browser with a page and `nc` with lines; both say which worker served them. It
knows of HTTP only as much as that needs: one GET or HEAD per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import itertools

from hybrid.workers.identity import Identity, current

PATIENCE = 60.0  # seconds of silence after which a connection is closed
LINGER = 1.0  # seconds
MAX_LINE = 4096  # bytes
MAX_HEADERS = 100
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")

_served = itertools.count(1)  # requests and lines this worker has answered


class _LineTooLong(Exception):  # noqa: N818 - it says what the client did, and never leaves this file
    """A client sent more than `MAX_LINE` bytes without a line end."""


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection: HTTP if its first line looks like it, else line by line."""
    try:
        line = await _read_line(reader)
        if _is_http(line):
            await _serve_page(line, reader, writer)
        else:
            await _serve_lines(line, reader, writer)
    except TimeoutError:
        writer.write(f"bye: nothing heard for {PATIENCE:g} seconds\n".encode())
    except _LineTooLong:
        writer.write(f"bye: a line has at most {MAX_LINE} bytes here\n".encode())
        await _discard(reader, writer)
    except ConnectionError:
        pass  # the client is gone: nobody to tell
    finally:
        writer.close()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, or what came before the end of the stream; b"" at the end. Raises `TimeoutError`."""
    try:
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
    except ValueError:  # the reader's own limit
        raise _LineTooLong from None
    if len(line) > MAX_LINE:
        raise _LineTooLong
    return line


def _is_http(line: bytes) -> bool:
    words = line.split()
    return len(words) == 3 and words[0].decode("ascii", "replace") in _METHODS and words[2].startswith(b"HTTP/1.")


async def _serve_lines(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.strip().lower() in {"quit", "exit"}:
            writer.write(b"bye\n")
            return
        writer.write(f"{_signature(current(), next(_served))}: you said {text!r}\n".encode())
        await writer.drain()
        line = await _read_line(reader)


def _signature(who: Identity, number: int) -> str:
    return f"{who.service}/{who.slot} gen={who.generation} pid={who.pid} on {who.loop}, answer {number}"


async def _serve_page(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method = line.split()[0]
    for _ in range(MAX_HEADERS):
        if (await _read_line(reader)).strip() == b"":
            break
    else:
        writer.write(_response("431 Request Header Fields Too Large", "too many headers\n"))
        await _discard(reader, writer)
        return
    if method in (b"GET", b"HEAD"):
        answer = _response("200 OK", _page(current(), next(_served)), kind="text/html")
    else:
        answer = _response("405 Method Not Allowed", "only GET and HEAD here\n", "Allow: GET, HEAD\r\n")
    writer.write(answer if method != b"HEAD" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    await _discard(reader, writer)


async def _discard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what the client still sends: close(2) with unread input resets the connection, and our answer with it."""
    await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(65536):
                pass


def _response(status: str, body: str, extra: str = "", kind: str = "text/plain") -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(content)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{extra}\r\n"
    )
    return head.encode("ascii") + content


def _page(who: Identity, number: int) -> str:
    facts = {
        "worker": f"{who.service}/{who.slot}",
        "generation": who.generation,
        "process": who.pid,
        "loop": who.loop,
        "answers of this worker": number,
    }
    rows = "".join(f"<tr><th>{name}<td>{html.escape(str(value))}" for name, value in facts.items())
    return (
        "<!doctype html><title>hybrid</title><meta name=viewport content='width=device-width'>"
        "<style>body{font:16px sans-serif;margin:3em}th{text-align:left;padding-right:2em;font-weight:normal}</style>"
        f"<h1>It works</h1><table>{rows}</table>"
        "<p>Reload: each connection goes to one of the workers.\n"
    )
