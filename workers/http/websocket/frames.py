"""The WebSocket protocol (RFC 6455) without IO: bytes to messages, and messages to frames.

`websockets` has the authority: its `ServerProtocol` negotiates and validates every frame, except for one kind. Complete
messages in a single ordinary frame make up nearly all traffic; they are parsed here, by the same rules, in a tenth of
the time. A test compares the two with arbitrary frames, cut anywhere.

This is more exact than `websockets` in two ways: a close frame may arrive between the fragments of a message (RFC 6455,
section 5.4), and invalid UTF-8 fails at the first fragment that proves it.
"""

from __future__ import annotations

import codecs
import logging
import struct
import sys
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a compiler
    from websockets.utils import apply_mask

ABNORMAL = 1006  # RFC 6455, section 7.4.1: the connection ended without a close frame
INVALID_TEXT, POLICY = 1007, 1008
MOST_EMPTY = 1024  # consecutive empty fragments of a message
VERSION = b"13"
_FIN_TEXT, _FIN_BINARY, _MASKED = 0x81, 0x82, 0x80  # RFC 6455, section 5.2
_PLAIN = (_FIN_TEXT, _FIN_BINARY)
_TEXT_HEADS = [bytes((_FIN_TEXT, length)) for length in range(126)]
_BINARY_HEADS = [bytes((_FIN_BINARY, length)) for length in range(126)]
_OPCODES = frozenset(int(opcode) for opcode in Opcode)
_DATA = frozenset({Opcode.CONT, Opcode.TEXT, Opcode.BINARY})
_Utf8 = codecs.getincrementaldecoder("utf-8")
# the attribute of `ServerProtocol` with the size of an unfinished message; `cur_size` before websockets 16
_UNFINISHED = "current_size" if hasattr(ServerProtocol(), "current_size") else "cur_size"
# 12 bits of window: about 50 KiB for both directions of a connection instead of 300 KiB, at nearly the same ratio
_DEFLATE = [
    ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
]
_log = logging.getLogger("hybrid.websocket")
_log.setLevel(logging.WARNING)  # `websockets` logs every connection at INFO


class HandshakeError(Exception):
    """The request is not a valid handshake: the response status, and a reason for the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class CloseError(ValueError):
    """The application gave a close code or reason that cannot be sent."""


class Closed(NamedTuple):
    """Why nothing more is received."""

    code: int
    """The client's code; after a failure, the code sent to it; 1005: none given; 1006: no close frame."""
    reason: str
    failed: bool
    """True if the client violated the protocol: it may still be sending, and is not read."""


class WebSocket:
    """One connection, from the server's side."""

    __slots__ = (
        "_empty",
        "_frame",
        "_is_text",
        "_largest",
        "_most",
        "_output",
        "_owed",
        "_parts",
        "_plain",
        "_protocol",
        "_tail",
        "_utf8",
        "closed",
        "has_news",
    )

    def __init__(self, max_size: int, compression: bool) -> None:
        """`max_size`: bytes of the longest message after decompression; 0: unlimited."""
        self._protocol = ServerProtocol(
            state=State.OPEN, extensions=_DEFLATE if compression else None, max_size=max_size or None, logger=_log
        )
        self._most = min(max_size or 65_535, 65_535)  # bytes of the largest message parsed in one piece
        self._largest = max_size or sys.maxsize  # bytes of the largest one whose frame is collected here
        self._frame: bytearray | None = None  # the beginning of an ordinary frame; None: the protocol gets its pieces
        self._plain = True  # output is not compressed
        self._tail = b""  # the beginning of an incomplete frame
        self._owed = 0  # bytes of the current frame not passed to the protocol yet
        self._parts: bytearray | None = None  # of a fragmented message; None: there is none
        self._utf8: codecs.IncrementalDecoder | None = None  # validates `_parts` if it is text
        self._empty = 0  # number of its latest consecutive empty fragments
        self._output: list[bytes] = []
        self.closed: Closed | None = None
        """Why nothing more is received; None while open."""
        self.has_news = False
        """True if `take_output` or `closed` needs a check."""

    @property
    def owed(self) -> int:
        """Bytes missing from the current frame."""
        return self._owed

    def handshake(self, target: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Check a request and negotiate; return header fields for the 101 response. Raises `HandshakeError`."""
        if [value for name, value in fields if name == b"sec-websocket-version"] != [VERSION]:
            raise HandshakeError(426, "this server speaks version 13 of the WebSocket protocol")
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])
        answer = self._protocol.accept(Request(target.decode("latin-1"), headers))
        if answer.status_code != 101:
            raise HandshakeError(answer.status_code, (answer.body or b"").decode().partition("\n")[0])
        self._plain = not self._protocol.extensions
        del answer.headers["Date"]
        return "".join(f"{name.lower()}: {value}\r\n" for name, value in answer.headers.raw_items()).encode("latin-1")

    # -- the hot path; benchmark: python -m benchmarks websocket ----------------------------------------------------

    def feed(self, data: bytes) -> list[str | bytes]:
        """Parse received bytes; return the completed messages. Anything else sets `has_news`."""
        messages: list[str | bytes] = []
        if self._tail:
            data = self._tail + data
            self._tail = b""
        size = len(data)
        at = self._continue(data, messages) if self._owed else 0
        while at < size and self.closed is None:
            if at + 6 <= size and self._parts is None:
                first = data[at]
                length = data[at + 1] - _MASKED
                start = at + 6
                if length == 126 and start + 2 <= size:
                    length = data[at + 2] << 8 | data[at + 3]
                    start = at + 8
                    is_plain = length <= self._most
                else:
                    is_plain = 0 <= length < 126 and length <= self._most
                end = start + length
                if is_plain and end <= size and first in _PLAIN:
                    payload = apply_mask(data[start:end], data[start - 4 : start])
                    at = end
                    if first == _FIN_BINARY:
                        messages.append(payload)
                        continue
                    try:
                        messages.append(str(payload, "utf-8"))
                    except UnicodeDecodeError as error:
                        self._invalid(error)
                    continue
            at = self._begin(data, at, messages)
        return messages

    def text(self, text: str) -> bytes:
        """Return the frame of a text message. Raises `UnicodeEncodeError`, `TypeError`."""
        payload = text.encode()
        if self._plain:
            size = len(payload)
            return _TEXT_HEADS[size] + payload if size < 126 else _long_head(_FIN_TEXT, size) + payload
        self._protocol.send_text(payload)
        return self._written()

    def binary(self, payload: bytes) -> bytes:
        """Return the frame of a binary message. Raises `TypeError`."""
        if self._plain:
            size = len(payload)
            return _BINARY_HEADS[size] + payload if size < 126 else _long_head(_FIN_BINARY, size) + payload
        self._protocol.send_binary(payload)
        return self._written()

    # -- less often ---------------------------------------------------------------------------------------------------

    def _begin(self, data: bytes, at: int, messages: list[str | bytes]) -> int:
        """Begin a frame that `feed` has not parsed: collect it if it is ordinary, else pass it to the protocol."""
        there = len(data) - at
        size = frame_size(data, at)
        if there >= 2 and (not data[at + 1] & _MASKED or data[at] & 0x0F not in _OPCODES):
            size = there  # the protocol rejects it, whatever its size
        elif size is None or (there < size and self._is_short(data, at)):
            self._tail = data[at:]
            return len(data)
        elif self._parts is None and data[at] in _PLAIN and size - _size_of_head(data[at + 1]) <= self._largest:
            self._frame = bytearray()
        if self._parts is not None and data[at] & 0x0F == Opcode.CLOSE:
            setattr(self._protocol, _UNFINISHED, None)  # else the protocol would report a violation
        self._owed = size
        return at + self._continue(data[at : at + size], messages)

    def _is_short(self, data: bytes, at: int) -> bool:
        """Return True if the frame at this position will be an ordinary short one once it is complete."""
        length = data[at + 1] - _MASKED
        return data[at] in _PLAIN and length < 126 and length <= self._most and self._parts is None

    def _continue(self, data: bytes, messages: list[str | bytes]) -> int:
        """Take the next part of the current frame; return the number of bytes."""
        piece = data[: self._owed]
        self._owed -= len(piece)
        if self._frame is not None:
            self._frame += piece
            if not self._owed:
                whole, self._frame = self._frame, None
                self._unmask(whole, messages)
            return len(piece)
        protocol = self._protocol
        protocol.receive_data(piece)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in _DATA:
                self._fragment(frame, messages)
        self._collect_output()
        return len(piece)

    def _unmask(self, frame: bytearray, messages: list[str | bytes]) -> None:
        """Add the message of a whole ordinary frame; the protocol would copy it five times more."""
        start = _size_of_head(frame[1])
        with memoryview(frame) as view:
            payload = apply_mask(view[start:], bytes(view[start - 4 : start]))
        if frame[0] == _FIN_BINARY:
            messages.append(payload)
            return
        try:
            messages.append(str(payload, "utf-8"))
        except UnicodeDecodeError as error:
            self._invalid(error)

    def _fragment(self, frame: Frame, messages: list[str | bytes]) -> None:
        """Add a fragment to its message."""
        data = bytes(frame.data)
        if frame.opcode is not Opcode.CONT:
            self._utf8 = _Utf8() if frame.opcode is Opcode.TEXT else None
            self._parts = bytearray()
            self._empty = 0
        elif not frame.fin:
            self._empty = 0 if data else self._empty + 1
            if self._empty > MOST_EMPTY:
                self.fail(POLICY, "too many empty fragments")
                return
        parts = self._parts
        assert parts is not None
        parts += data
        fault = self._utf8_error(data, frame.fin) if self._utf8 is not None else None
        if fault is not None:
            self.fail(INVALID_TEXT, fault)
            return
        if frame.fin:
            self._parts = None
            messages.append(bytes(parts) if self._utf8 is None else str(parts, "utf-8"))

    def _utf8_error(self, fragment: bytes, is_last: bool) -> str | None:
        """Return why a text cannot be valid UTF-8, whatever follows this fragment; None if it can."""
        utf8 = self._utf8
        assert utf8 is not None
        try:
            utf8.decode(
                fragment, is_last
            )  # the result is dropped: many small strings would take several times the memory
        except UnicodeDecodeError as error:
            return error.reason
        pending = utf8.getstate()[0]
        # after a surrogate's first two bytes Python waits for the third, which cannot make it valid
        return "invalid continuation byte" if b"\xed\xa0" <= pending < b"\xee" else None

    def _invalid(self, error: UnicodeDecodeError) -> None:
        """Fail the connection: text must be UTF-8 (RFC 6455, section 8.1)."""
        self.fail(INVALID_TEXT, f"{error.reason} at position {error.start}")

    def _collect_output(self) -> None:
        """Collect the protocol's output, and check whether it has ended."""
        for data in self._protocol.data_to_send():
            self.has_news = True
            if data:
                self._output.append(data)
            elif self.closed is None:  # SEND_EOF: the server ends the connection
                self.closed = self._close_reason()

    def _close_reason(self) -> Closed:
        protocol = self._protocol
        received, sent = protocol.close_rcvd, protocol.close_sent
        if protocol.parser_exc is None and received is not None:
            return Closed(int(received.code), received.reason, failed=False)
        if sent is None:
            return Closed(ABNORMAL, "", failed=True)
        return Closed(int(sent.code), sent.reason, failed=True)

    def _written(self) -> bytes:
        return b"".join(self._protocol.data_to_send())

    def take_output(self) -> bytes:
        """Return the protocol's output: pongs, a close frame."""
        self.has_news = False
        output, self._output = b"".join(self._output), []
        return output

    def ping(self) -> bytes:
        """Return a ping frame."""
        self._protocol.send_ping(b"")
        return self._written()

    def close(self, code: int, reason: str) -> bytes:
        """Return the close frame that begins the closing handshake. Raises `CloseError`."""
        try:
            self._protocol.send_close(code, reason)
        except ProtocolError as error:
            raise CloseError(f"close code {code!r} with reason {reason!r:.140} cannot be sent: {error}") from None
        return self._written()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection without waiting for the client (RFC 6455, section 7.1.7)."""
        if self.closed is None:
            self.closed = Closed(code, reason, failed=True)
            self._frame = None  # the protocol drops the rest
            self._protocol.fail(code, reason)
            self._collect_output()


def frame_size(data: bytes, at: int) -> int | None:
    """Return the size of the frame at this position including its head; None: too few bytes to tell."""
    if len(data) - at < 2:
        return None
    second = data[at + 1]
    head = 6 if second & _MASKED else 2
    length = second & 0x7F
    if length < 126:
        return head + length
    extra = 2 if length == 126 else 8
    if len(data) - at < 2 + extra:
        return None
    return head + extra + int.from_bytes(data[at + 2 : at + 2 + extra], "big")


def _size_of_head(second: int) -> int:
    """Return the bytes of a masked frame before its payload; `second`: its second byte."""
    length = second & 0x7F
    return 6 if length < 126 else 8 if length == 126 else 14


def _long_head(first: int, size: int) -> bytes:
    """Return the head of a frame with at least 126 bytes of payload."""
    return struct.pack("!BBH", first, 126, size) if size < 65_536 else struct.pack("!BBQ", first, 127, size)
