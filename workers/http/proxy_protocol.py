"""The PROXY protocol, versions 1 and 2: a load balancer names the client before the connection's first byte. Sans-IO.

Source: HAProxy's `doc/proxy-protocol.txt` (2020/03/05); section numbers below refer to it.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket

from hybrid.workers.contract.records import record

Endpoint = tuple[str, int]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first bytes of version 2 (section 2.2)."""
MAX_V1 = 107
"""Bytes of the longest version 1 line, including its end (section 2.1)."""
MAX_V2 = 4096
"""Bytes of the longest version 2 header accepted here; the protocol allows 65551."""

_V1 = b"PROXY "
_FIXED = 16  # bytes of version 2 before the addresses
_LOCAL, _PROXY = 0, 1
_UNSPEC, _INET, _INET6, _UNIX = 0, 1, 2, 3
_STREAM, _DGRAM = 1, 2
_ADDRESS_BYTES = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_TLV_HEAD = 3  # bytes: one of type, two of length
_TLV_CRC32C = 0x03
# section 2.1: ports are decimal without leading zeros, fields are separated by exactly one space
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")


class ProxyProtocolError(Exception):
    """The connection does not begin with a valid PROXY header; `reason` says why. It can only be closed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@record(frozen=True, slots=True)
class Preamble:
    """The contents of a PROXY header, and the bytes received after it."""

    client: Endpoint | None
    """Host and port of the client; None: not given, so the connection's own peer is the client."""
    server: Endpoint | None
    """Host and port the client connected to; None exactly when `client` is."""
    rest: bytes
    """The first bytes after the header."""
    local: bool
    """True if the proxy connected on its own behalf, as for a health check."""


class ProxyHeader:
    """Parses the first bytes of one connection, in pieces of any size, until its PROXY header is complete.

    Addresses of TCP over IPv4 and IPv6 are used. `UNKNOWN`, UNSPEC, UNIX sockets and datagrams are valid headers that
    name no client: the protocol treats everything that a receiver does not support this way (section 2.2). Keeps at
    most `MAX_V2` bytes in addition to the piece just fed. The caller needs a deadline for headers that never end.
    """

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = b""

    def feed(self, data: bytes) -> Preamble | None:
        """Return the preamble once it is complete, None before. Feed nothing more after that.

        Raises `ProxyProtocolError` as soon as the bytes cannot become a header.
        """
        received = self._received = self._received + data
        if received.startswith(SIGNATURE):
            return _version_2(received)
        if received.startswith(_V1):
            return _version_1(received)
        if SIGNATURE.startswith(received) or _V1.startswith(received):
            return None
        raise ProxyProtocolError("no PROXY header: the first bytes match neither version")


def _version_1(received: bytes) -> Preamble | None:
    end = received.find(b"\r\n", 0, MAX_V1)
    if end < 0 and len(received) >= MAX_V1:
        raise ProxyProtocolError(f"version 1: no CR LF in the first {MAX_V1} bytes")
    line = received[:end] if end >= 0 else received.removesuffix(b"\r")  # only the CR may have arrived
    if b"\r" in line or b"\n" in line:
        raise ProxyProtocolError("version 1: a stray CR or LF in the line")
    if end < 0:
        return None
    rest = received[end + 2 :]
    if _UNKNOWN.fullmatch(line):
        return Preamble(None, None, rest, local=False)
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProxyProtocolError("version 1: the line is malformed")
    family, source, destination, source_port, destination_port = found.groups()
    return Preamble(
        _endpoint(family, source, source_port), _endpoint(family, destination, destination_port), rest, local=False
    )


def _endpoint(family: bytes, address: bytes, port: bytes) -> Endpoint:
    parse = ipaddress.IPv4Address if family == b"TCP4" else ipaddress.IPv6Address
    try:
        host = str(parse(address.decode("ascii")))
    except ValueError:
        raise ProxyProtocolError(f"version 1: an address is not one of {family.decode()}") from None
    if int(port) > 65535:
        raise ProxyProtocolError("version 1: a port is above 65535")
    return host, int(port)


def _version_2(received: bytes) -> Preamble | None:
    known = received[len(SIGNATURE) : _FIXED]
    if known and known[0] not in {0x20 | _LOCAL, 0x20 | _PROXY}:
        raise ProxyProtocolError(f"version 2: version and command are {known[0]:#04x}, not 0x20 or 0x21")
    if known[1:] and (known[1] >> 4 > _UNIX or known[1] & 15 > _DGRAM):
        raise ProxyProtocolError(f"version 2: family and transport are {known[1]:#04x}, which is not assigned")
    if len(received) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(known[2:])
    if size > MAX_V2:
        raise ProxyProtocolError(f"version 2: a header of {size} bytes; at most {MAX_V2} are accepted")
    if len(received) < size:
        return None
    header, rest = received[:size], received[size:]
    if known[0] & 15 == _LOCAL:
        return Preamble(None, None, rest, local=True)  # the rest of the block is discarded unread (section 2.2)
    client, server = _addresses(header)
    return Preamble(client, server, rest, local=False)


def _addresses(header: bytes) -> tuple[Endpoint, Endpoint] | tuple[None, None]:
    family, transport = header[13] >> 4, header[13] & 15
    if _UNSPEC in (family, transport):
        return None, None
    block = header[_FIXED:][: _ADDRESS_BYTES[family]]
    if len(block) < _ADDRESS_BYTES[family]:
        raise ProxyProtocolError(f"version 2: {len(block)} bytes are too few for the addresses")
    _check_extensions(header, _FIXED + len(block))
    if family == _UNIX or transport != _STREAM:
        return None, None
    address_family, width = (socket.AF_INET, 4) if family == _INET else (socket.AF_INET6, 16)
    source, destination = (socket.inet_ntop(address_family, block[at : at + width]) for at in (0, width))
    ports = block[2 * width :]
    return (source, int.from_bytes(ports[:2])), (destination, int.from_bytes(ports[2:]))


def _check_extensions(header: bytes, place: int) -> None:
    """Walk the type-length-value vectors after the addresses: they must fill the header exactly.

    Their contents are ignored, except for a checksum, which must be correct (section 2.2.3).
    """
    while place < len(header):
        start = place + _TLV_HEAD
        place = start + int.from_bytes(header[start - 2 : start])
        if start > len(header) or place > len(header):
            raise ProxyProtocolError("version 2: an extension is longer than the header")
        if header[start - _TLV_HEAD] == _TLV_CRC32C:
            sent = header[start:place]
            zeroed = header[:start] + bytes(len(sent)) + header[place:]
            if len(sent) != 4 or int.from_bytes(sent) != crc32c(zeroed):
                raise ProxyProtocolError("version 2: the checksum is wrong")


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum of RFC 4960 appendix B. About 0.1 microseconds per byte."""
    table = _crc32c_table()
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ table[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    return tuple(table)
