"""The WebSocket protocol (RFC 6455) without a connection: bytes in, messages out, and the frames of what is sent.

`websockets` decides: its `ServerProtocol` negotiates and judges every frame, but for one kind. Whole messages in one
frame that nothing is special about make nearly all traffic; they are taken apart here, by the same rules, for a tenth
of the time. A test compares the two over arbitrary frames, cut anywhere.

In two things this is more exact than `websockets`: a close frame may come between the fragments of a
message (RFC 6455, section 5.4), and text that is not UTF-8 fails at the fragment that shows it.
"""

from __future__ import annotations

import codecs
import logging
import struct
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
MOST_EMPTY = 1024  # fragments of a message in a row that bring nothing
VERSION = b"13"
_FIN_TEXT, _FIN_BINARY, _MASKED = 0x81, 0x82, 0x80  # RFC 6455, section 5.2
_PLAIN = (_FIN_TEXT, _FIN_BINARY)
_TEXT_HEADS = [bytes((_FIN_TEXT, length)) for length in range(126)]
_BINARY_HEADS = [bytes((_FIN_BINARY, length)) for length in range(126)]
_OPCODES = frozenset(int(opcode) for opcode in Opcode)
_DATA = frozenset({Opcode.CONT, Opcode.TEXT, Opcode.BINARY})
_Utf8 = codecs.getincrementaldecoder("utf-8")
# where `ServerProtocol` keeps the size of the message whose fragments come; `cur_size` before websockets 16
_UNFINISHED = "current_size" if hasattr(ServerProtocol(), "current_size") else "cur_size"
# 12 bits of window: about 50 KiB for both directions of a connection instead of 300 KiB, for nearly the same ratio
_DEFLATE = [
    ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
]
_log = logging.getLogger("hybrid.websocket")
_log.setLevel(logging.WARNING)  # `websockets` tells every connection at INFO


class HandshakeError(Exception):
    """The request is no proper handshake: the status of the answer, what to tell the client, and extra fields."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class CloseError(ValueError):
    """The application gave a close code or a reason that cannot be sent."""


class Closed(NamedTuple):
    """Why nothing more is received."""

    code: int
    """The client's; where the connection failed, the one it was told; 1005: it gave none; 1006: it just ended."""
    reason: str
    failed: bool
    """Whether the client broke the rules: it may still be sending, and is not read."""


class WebSocket:
    """One connection, seen from the server."""

    __slots__ = (
        "_empty",
        "_is_text",
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
        """`max_size`: bytes of the longest message after decompression; 0: any."""
        self._protocol = ServerProtocol(
            state=State.OPEN, extensions=_DEFLATE if compression else None, max_size=max_size or None, logger=_log
        )
        self._most = min(max_size or 65_535, 65_535)  # bytes of a message that is taken apart here
        self._plain = True  # what is sent is not compressed
        self._tail = b""  # the beginning of a frame that is not whole
        self._owed = 0  # bytes of the current frame that the protocol has not got yet
        self._parts: bytearray | None = None  # of a fragmented message; None: there is none
        self._utf8: codecs.IncrementalDecoder | None = None  # follows that, if it is text
        self._empty = 0  # its newest fragments that brought nothing
        self._output: list[bytes] = []
        self.closed: Closed | None = None
        """Why nothing more is received; None: it goes on."""
        self.has_news = False
        """Whether `take_output` or `closed` should be looked at."""

    @property
    def owed(self) -> int:
        """Bytes of the current frame that have not come yet."""
        return self._owed

    def handshake(self, target: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Check a request and negotiate; return header fields of the answer 101. Raises `HandshakeError`."""
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
        """Take what has arrived; return the messages that are whole now. Sets `has_news` for all else."""
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
        """Return the frame of a message. Raises `UnicodeEncodeError`, `TypeError`."""
        payload = text.encode()
        if self._plain:
            size = len(payload)
            return _TEXT_HEADS[size] + payload if size < 126 else _long_head(_FIN_TEXT, size) + payload
        self._protocol.send_text(payload)
        return self._written()

    def binary(self, payload: bytes) -> bytes:
        """Return the frame of a message. Raises `TypeError`."""
        if self._plain:
            size = len(payload)
            return _BINARY_HEADS[size] + payload if size < 126 else _long_head(_FIN_BINARY, size) + payload
        self._protocol.send_binary(payload)
        return self._written()

    # -- less often ---------------------------------------------------------------------------------------------------

    def _begin(self, data: bytes, at: int, messages: list[str | bytes]) -> int:
        """A frame that is not plain, or not whole, or follows a fragment: give it to the protocol, or keep it."""
        there = len(data) - at
        size = frame_size(data, at)
        if there >= 2 and (not data[at + 1] & _MASKED or data[at] & 0x0F not in _OPCODES):
            size = there  # the protocol refuses it, whatever its size
        elif size is None or (there < size and self._is_short(data, at)):
            self._tail = data[at:]
            return len(data)
        if self._parts is not None and data[at] & 0x0F == Opcode.CLOSE:
            setattr(self._protocol, _UNFINISHED, None)  # else it would be a breach of the protocol
        self._owed = size
        return at + self._continue(data[at : at + size], messages)

    def _is_short(self, data: bytes, at: int) -> bool:
        """Whether the frame at a place will be plain and short once it is whole."""
        length = data[at + 1] - _MASKED
        return data[at] in _PLAIN and length < 126 and length <= self._most and self._parts is None

    def _continue(self, data: bytes, messages: list[str | bytes]) -> int:
        """Give the protocol what it is owed of the current frame; return how much that was."""
        piece = data[: self._owed]
        self._owed -= len(piece)
        protocol = self._protocol
        protocol.receive_data(piece)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in _DATA:
                self._fragment(frame, messages)
        self._collect_output()
        return len(piece)

    def _fragment(self, frame: Frame, messages: list[str | bytes]) -> None:
        """Add to the message that the frame belongs to."""
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
        """Return why a text cannot be UTF-8, however it goes on behind this fragment; None if it can."""
        utf8 = self._utf8
        assert utf8 is not None
        try:
            utf8.decode(
                fragment, is_last
            )  # its result is dropped: many small strings would take a multiple of the memory
        except UnicodeDecodeError as error:
            return error.reason
        pending = utf8.getstate()[0]
        # of a surrogate Python waits for the third byte, which cannot make it valid
        return "invalid continuation byte" if b"\xed\xa0" <= pending < b"\xee" else None

    def _invalid(self, error: UnicodeDecodeError) -> None:
        """Text must be UTF-8 (RFC 6455, section 8.1)."""
        self.fail(INVALID_TEXT, f"{error.reason} at position {error.start}")

    def _collect_output(self) -> None:
        """See what the protocol wants sent, and whether it has come to its end."""
        for data in self._protocol.data_to_send():
            self.has_news = True
            if data:
                self._output.append(data)
            elif self.closed is None:  # SEND_EOF: a server is the one that ends the connection
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
        """Return what the protocol wants sent: pongs, a close frame."""
        self.has_news = False
        output, self._output = b"".join(self._output), []
        return output

    def ping(self) -> bytes:
        """Return the frame of a ping."""
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
        """End it from this side, without waiting for the client (RFC 6455, section 7.1.7)."""
        if self.closed is None:
            self.closed = Closed(code, reason, failed=True)
            self._protocol.fail(code, reason)
            self._collect_output()


def frame_size(data: bytes, at: int) -> int | None:
    """Return how many bytes the frame at a place has, its head included; None: too little of it is there to tell."""
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


def _long_head(first: int, size: int) -> bytes:
    """Return the head of a frame with at least 126 bytes of payload."""
    return struct.pack("!BBH", first, 126, size) if size < 65_536 else struct.pack("!BBQ", first, 127, size)
