"""An async handler that uses its streams as asyncio's are used: TLS in mid-stream, files, writers in the background."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from asyncio import StreamReader, StreamWriter

_background: set[asyncio.Task[None]] = set()


async def handle(reader: StreamReader, writer: StreamWriter) -> None:
    """Do what the first line says."""
    assert isinstance(reader, StreamReader)
    assert isinstance(writer, StreamWriter)
    match (await reader.readline()).decode().strip():
        case "starttls":
            await _starttls(reader, writer)
        case "sendfile":
            await _sendfile(writer)
        case "background":
            task = asyncio.create_task(_beat(writer))
            _background.add(task)
            task.add_done_callback(_background.discard)
        case "beating":
            writer.write(b"%d" % len(_background))
        case "names":
            name = writer.get_extra_info("sockname")
            writer.close()
            await writer.wait_closed()
            assert writer.get_extra_info("sockname") == name
            return
    writer.close()
    await writer.wait_closed()


async def _starttls(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"go ahead\n")
    await writer.drain()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["PEM"])
    await writer.start_tls(context)
    writer.write(b"secret " + await reader.readline())
    await writer.drain()


async def _sendfile(writer: StreamWriter) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(300_000))
        writer.write(b"head")
        await asyncio.get_running_loop().sendfile(writer.transport, file)
        writer.write(b"tail")
        await writer.drain()


async def _beat(writer: StreamWriter) -> None:
    try:
        while True:
            writer.write(b"beat\n")
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass
