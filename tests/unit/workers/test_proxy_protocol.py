"""The PROXY protocol: both versions, cut anywhere, and invalid headers."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.workers.http.proxy_protocol import MAX_V2, SIGNATURE, Preamble, ProxyHeader, ProxyProtocolError, crc32c

AFTER = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("203.0.113.9") + struct.pack("!HH", 56324, 443)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "::1") + b"\x00\x01\xff\xff"
UNIX = b"/run/a".ljust(108, b"\x00") + b"/run/b".ljust(108, b"\x00")


def v2(family: int = 0x11, block: bytes = V4, command: int = 0x21, extensions: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block + extensions)) + block + extensions


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def fed(pieces: Iterable[bytes]) -> Preamble | None:
    """Feed pieces until the header is complete; unfed pieces are appended to the rest."""
    header, found, later = ProxyHeader(), None, b""
    for piece in pieces:
        if found is None:
            found = header.feed(piece)
        else:
            later += piece
    return found and Preamble(found.client, found.server, found.rest + later, found.local)


CLIENT_4 = Preamble(("192.0.2.1", 56324), ("203.0.113.9", 443), AFTER, local=False)
CLIENT_6 = Preamble(("2001:db8::1", 1), ("::1", 65535), AFTER, local=False)
NOBODY = Preamble(None, None, AFTER, local=False)
HEALTH_CHECK = Preamble(None, None, AFTER, local=True)
checksummed = v2(extensions=tlv(3, bytes(4)) + tlv(4, b"pad"))
checksummed = checksummed.replace(bytes(4) + b"\x04", crc32c(checksummed).to_bytes(4) + b"\x04")

GOOD = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.1 203.0.113.9 56324 443\r\n", CLIENT_4),
    "v1 TCP6": (b"PROXY TCP6 2001:DB8:0::1 ::1 1 65535\r\n", CLIENT_6),
    "v1 port 0": (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Preamble(("0.0.0.0", 0), ("0.0.0.0", 0), AFTER, local=False)),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", NOBODY),
    "v1 UNKNOWN, 107 bytes": (b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n", NOBODY),
    "v2 TCP over IPv4": (v2(), CLIENT_4),
    "v2 TCP over IPv6": (v2(0x21, V6), CLIENT_6),
    "v2 UDP": (v2(0x12), NOBODY),
    "v2 UNIX stream": (v2(0x31, UNIX), NOBODY),
    "v2 UNIX datagram": (v2(0x32, UNIX), NOBODY),
    "v2 unspecified": (v2(0x00, b""), NOBODY),
    "v2 unspecified with a block": (v2(0x00, b"any block"), NOBODY),
    "v2 unspecified transport": (v2(0x10), NOBODY),
    "v2 LOCAL": (v2(0x00, b"", command=0x20), HEALTH_CHECK),
    "v2 LOCAL with a block": (v2(0x11, b"ignored", command=0x20), HEALTH_CHECK),
    "v2 extensions": (v2(extensions=tlv(1, b"h2") + tlv(0xEA, b"") + tlv(0x20, b"\x01" + bytes(4))), CLIENT_4),
    "v2 checksum": (checksummed, CLIENT_4),
    "v2 as long as may be": (v2(extensions=tlv(4, bytes(MAX_V2 - 16 - 12 - 3))), CLIENT_4),
}


@pytest.mark.parametrize(("header", "expected"), GOOD.values(), ids=GOOD)
def test_a_header_names_the_client_and_the_bytes_after_it_are_kept(header: bytes, expected: Preamble) -> None:
    assert fed([header + AFTER]) == expected


@pytest.mark.parametrize(("header", "expected"), GOOD.values(), ids=GOOD)
def test_a_header_may_arrive_in_single_bytes(header: bytes, expected: Preamble) -> None:
    reader = ProxyHeader()
    *others, last = (header[place : place + 1] for place in range(len(header)))
    assert [reader.feed(piece) for piece in others] == [None] * len(others)
    assert reader.feed(last) == Preamble(expected.client, expected.server, b"", expected.local)


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 300), max_size=6))
def test_cuts_in_a_header_make_no_difference(name: str, cuts: list[int]) -> None:
    header, expected = GOOD[name]
    assert fed(cut(header + AFTER, cuts)) == expected


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


BAD = {
    "a request": (AFTER, "match neither"),
    "a request that begins alike": (b"PROPFIND / HTTP/1.1\r\n", "match neither"),
    "a TLS handshake": (b"\x16\x03\x01\x02\x00", "match neither"),
    "lower case": (b"proxy TCP4", "match neither"),
    "almost the signature": (SIGNATURE[:-1] + b"\r", "match neither"),
    "v1 TCP5": (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "malformed"),
    "v1 unknown in lower case": (b"PROXY unknown\r\n", "malformed"),
    "v1 two spaces": (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", "malformed"),
    "v1 a space at the end": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "malformed"),
    "v1 a port missing": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "malformed"),
    "v1 a port with a leading zero": (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "malformed"),
    "v1 a negative port": (b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "malformed"),
    "v1 a port too large": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "above 65535"),
    "v1 an address of the other family": (b"PROXY TCP4 ::1 ::1 1 2\r\n", "not one of TCP4"),
    "v1 an IPv4 address for TCP6": (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "not one of TCP6"),
    "v1 an octal address": (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "not one of TCP4"),
    "v1 a zone": (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "malformed"),
    "v1 LF alone": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "a stray CR or LF"),
    "v1 CR alone": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rG", "a stray CR or LF"),
    "v1 LF inside": (b"PROXY UNKNOWN a\nb\r\n", "a stray CR or LF"),
    "v1 too long": (b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n", "first 107 bytes"),
    "v1 endless": (b"PROXY TCP4 ".ljust(107, b"1"), "first 107 bytes"),
    "v2 another version": (v2(command=0x31), "version and command are 0x31"),
    "v2 another command": (v2(command=0x22), "version and command are 0x22"),
    "v2 another family": (v2(0x41), "family and transport are 0x41"),
    "v2 another transport": (v2(0x13), "family and transport are 0x13"),
    "v2 IPv4 too short": (v2(block=V4[:-1]), "11 bytes are too few"),
    "v2 IPv6 too short": (v2(0x21, V4), "12 bytes are too few"),
    "v2 UNIX too short": (v2(0x31, V6), "36 bytes are too few"),
    "v2 too long": (v2(extensions=tlv(4, bytes(MAX_V2))), "bytes; at most 4096 are accepted"),
    "v2 half an extension": (v2(extensions=b"\x01\x00"), "longer than the header"),
    "v2 an extension too long": (v2(extensions=b"\x01\x00\x05h2"), "longer than the header"),
    "v2 a wrong checksum": (checksummed.replace(b"pad", b"pat"), "checksum is wrong"),
    "v2 a short checksum": (v2(extensions=tlv(3, b"abc")), "checksum is wrong"),
}


@for_each(("data", "reason"), BAD.values(), ids=BAD)
def test_anything_else_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ProxyProtocolError, match=reason) as caught:
        ProxyHeader().feed(data)
    assert caught.value.reason == str(caught.value)


@for_each("data", [data for data, _ in BAD.values()], ids=BAD)
def test_an_invalid_header_is_refused_in_single_bytes_too(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        fed(data[place : place + 1] for place in range(len(data)))


@for_each("data", [b"G", b"PU", b"\r\n\r\nX", SIGNATURE + b"\x11", SIGNATURE + b"\x21\x51"])
def test_a_connection_is_refused_at_the_first_impossible_byte(data: bytes) -> None:
    reader = ProxyHeader()
    assert [reader.feed(data[place : place + 1]) for place in range(len(data) - 1)] == [None] * (len(data) - 1)
    with pytest.raises(ProxyProtocolError):
        reader.feed(data[-1:])


def test_a_header_that_is_too_long_is_refused_before_it_has_arrived() -> None:
    with pytest.raises(ProxyProtocolError, match="a header of 65551 bytes"):
        ProxyHeader().feed(SIGNATURE + b"\x21\x11\xff\xff")


starts = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00", SIGNATURE + b"\x20"])


@given(starts, st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_give_the_same_result_however_they_are_cut(start: bytes, data: bytes, cuts: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> Preamble | str | None:
        try:
            return fed(pieces)
        except ProxyProtocolError:
            return "refused"

    assert outcome([start + data]) == outcome(cut(start + data, cuts))


def test_the_checksum_is_castagnolis() -> None:
    """The check value of the CRC catalogue, and the values of RFC 3720 appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
