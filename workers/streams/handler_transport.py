"""`HandlerTransport`: `writer.transport`, a complete `asyncio.Transport` over the connection of a handler's streams.

At first the reader *pulls* from the socket, and this transport only writes and closes. `pause_reading`, `set_protocol`
and their users (`start_tls`, `loop.sendfile` without sendfile(2)) need a transport that *pushes* input into a protocol,
as asyncio's does. The first such call switches this transport to pushing permanently: to an
`asyncio.StreamReaderProtocol` that feeds the handler's reader, or to the protocol that is set. From then on everything
behaves like asyncio's streams, at the same cost.
"""

from __future__ import annotations

import asyncio
import socket
from typing import IO, Any, cast

from hybrid.workers.pollers.contract import READ
from hybrid.workers.streams.stream_socket import StreamSocket
from hybrid.workers.streams.write_transport import WriteTransport, served
from hybrid.workers.tasks.cpython import AcceptedTransport, adopt_reader

_READ_SIZE = 256 * 1024  # bytes read at once, as in asyncio


class HandlerTransport(WriteTransport, AcceptedTransport):
    """Both halves of `asyncio.Transport`. Belongs to the loop's thread."""

    def __init__(self, connection: StreamSocket, reader: Any) -> None:
        self._connection = connection
        self._reader = reader
        self._protocol: Any = None
        self._streams_protocol: Any = None
        self._pushes = False
        self._reading = True
        self._eof = False  # the protocol was told of the end of the stream
        self._unread = b""  # bytes given back by the reader
        self._resume = self._readable  # bound once, to compare by identity

    def __repr__(self) -> str:
        connection = self._connection
        state = "closed" if connection.closed else "closing" if connection.closing else "open"
        return f"<{type(self).__name__} fd={connection.watch.fd} {state} bufsize={self.get_write_buffer_size()}>"

    def is_paused(self) -> bool:
        """Return True if the protocol was told to pause writing."""
        return self._connection.paused

    # -- the protocol ----------------------------------------------------------------------------------------------

    def streams_protocol(self) -> Any:
        """Return asyncio's protocol for the reader: the protocol of this transport unless another one is set."""
        if self._streams_protocol is None:
            protocol: Any = asyncio.StreamReaderProtocol(self._reader, served, loop=self._connection.loop)
            adopt_reader(protocol, self)
            self._streams_protocol = protocol
            self._install(protocol)
            if self._connection.paused:
                protocol.pause_writing()
        return self._streams_protocol

    def get_protocol(self) -> Any:
        """Return the protocol; None once the connection is lost."""
        self.streams_protocol()
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Pass input to `protocol` from now on. The caller must call `connection_made`, as with asyncio."""
        self._push()
        self._install(protocol)

    def _install(self, protocol: Any) -> None:
        connection = self._connection
        if self._protocol is None:
            self._tell_closed, connection.on_closed = connection.on_closed, self._lost
        self._protocol = protocol
        connection.protocol = protocol
        if connection.closed:
            self._tell_lost()

    def _lost(self) -> None:
        self._tell_closed()
        self._connection.loop.call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        connection, protocol = self._connection, self._protocol
        self._reader = None  # it and this transport form a cycle
        connection.let_go()
        if protocol is not None:
            protocol.connection_lost(connection.error)
            self._protocol = None

    # -- reading ---------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Return True if input is being read."""
        return self._reading and not self._connection.closing

    def pause_reading(self) -> None:
        """Stop reading: input stays in the kernel, and TCP slows the peer down."""
        if self.is_reading():
            self._push()
            self._reading = False
            if self._connection.watch.on_readable is self._resume:
                self._connection.watch.on_readable = None

    def resume_reading(self) -> None:
        """Resume reading in the next turn of the loop."""
        if not self._reading and not self._connection.closing:
            self._reading = True
            if self._unread:
                self._connection.loop.call_soon(self._readable)
            self._listen()

    def give_back(self, data: bytes) -> None:
        """Read `data` again, before the bytes in the socket. Call it while reading is paused."""
        self._unread = data

    def _push(self) -> None:
        if not self._pushes:
            self._pushes = True
            self.get_protocol()
            if self._reader is not None:
                self._reader.is_fed_by(self)
            self._listen()

    def _listen(self) -> None:
        """Wait until the socket is readable."""
        connection = self._connection
        watch = connection.watch
        if not self._reading or self._eof or connection.closing:
            return
        if watch.on_readable is not None and watch.on_readable is not self._resume:
            connection.loop.call_soon(self._listen)  # a pulling reader has been woken, but still has its callback here
            return
        watch.on_readable = self._resume
        if not watch.armed & READ:
            try:
                connection.watches.arm(watch, READ)
            except OSError as error:
                connection.failed(error)

    def _readable(self) -> None:
        connection = self._connection
        if not self.is_reading() or self._eof:
            return
        data, self._unread = self._unread, b""
        if not data:
            try:
                data = connection.sock.recv(_READ_SIZE)
            except BlockingIOError:
                self._listen()
                return
            except OSError as error:
                connection.failed(error)
                return
        try:
            self._hand_over(data)
        except Exception as error:  # noqa: BLE001 - reported; asyncio's transports do the same
            context = {"message": "a protocol failed; its connection is closed", "exception": error}
            connection.loop.call_exception_handler({**context, "transport": self, "protocol": self._protocol})
            connection.failed(error)
        else:
            self._listen()

    def _hand_over(self, data: bytes) -> None:
        protocol = self._protocol
        if not data:
            self._eof = True
            if not protocol.eof_received():
                self.close()
        elif isinstance(protocol, asyncio.BufferedProtocol):
            rest = memoryview(data)
            while rest:
                room = memoryview(protocol.get_buffer(len(rest)))
                taken = min(len(room), len(rest))
                if not taken:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                room[:taken] = rest[:taken]
                protocol.buffer_updated(taken)
                rest = rest[taken:]
        else:
            protocol.data_received(data)

    def break_off(self, error: Exception | None) -> None:
        """End the connection immediately, with `error` for the protocol if there is one."""
        if error is None:
            self.abort()
        else:
            self._connection.failed(error)

    # -- files -----------------------------------------------------------------------------------------------------

    async def send_file(self, file: IO[bytes], offset: int, count: int | None) -> int:
        """Send a file with sendfile(2) behind all unsent data; return the number of bytes.

        Raises `asyncio.SendfileNotAvailableError` unless it is a regular file, `OSError` if the connection is lost.
        """
        connection = self._connection
        await connection.wait_sent()
        if connection.closed:
            raise connection.error or ConnectionError("Connection closed by peer")
        with cast(socket.socket, connection.sock).dup() as duplicate, connection.reserved():
            duplicate.setblocking(False)
            # the loop watches a duplicate, because the connection already watches the descriptor
            return await connection.loop.sock_sendfile(duplicate, file, offset, count, fallback=False)
