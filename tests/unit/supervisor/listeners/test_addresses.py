"""The syntax of `--bind`, and its errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.supervisor.listeners.addresses import (
    Bind,
    BindSyntaxError,
    FdBind,
    TcpBind,
    UdpBind,
    UnixBind,
    parse_bind,
    with_families,
)


@for_each(
    ("text", "bind"),
    [
        ("127.0.0.1:9000", TcpBind("127.0.0.1", 9000)),
        ("tcp://127.0.0.1:9000", TcpBind("127.0.0.1", 9000)),
        ("localhost:0", TcpBind("localhost", 0)),
        ("[::1]:65535", TcpBind("::1", 65535)),
        ("[fe80::1%lo]:80", TcpBind("fe80::1%lo", 80)),
        ("udp://127.0.0.1:53", UdpBind("127.0.0.1", 53)),
        ("udp://[::]:53", UdpBind("::", 53)),
        ("unix:/run/app.sock", UnixBind("/run/app.sock")),
        ("unix:///run/app.sock", UnixBind("/run/app.sock")),
        ("unix:app.sock", UnixBind("app.sock")),
        ("unix:@app", UnixBind("@app")),
        ("fd://3", FdBind(3)),
    ],
)
def test_an_address_is_understood(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


@for_each(
    ("text", "says"),
    [
        ("", "has no port: write HOST:PORT"),
        ("localhost", "has no port"),
        ("9000", "127.0.0.1:9000"),
        (":9000", "0.0.0.0:9000 for all IPv4 interfaces"),
        ("::1:9000", "in brackets"),
        ("[::1]", "has no port"),
        ("[::1:9000", "has no port"),
        ("[]:9000", "has no valid host"),
        ("a b:9000", "has no valid host"),
        ("127.0.0.1:", "is not a port"),
        ("127.0.0.1:65536", "0 to 65535"),
        ("127.0.0.1:+1", "is not a port"),
        ("127.0.0.1:1_0", "is not a port"),
        ("127.0.0.1:\N{ARABIC-INDIC DIGIT ONE}", "is not a port"),
        ("http://127.0.0.1:80", "unknown kind of address 'http://'"),
        ("unix:", "has no path"),
        ("unix:@", "has no path"),
        ("unix:/a\0b", "NUL"),
        ("unix:/" + "x" * 107, "longer than the 107 bytes"),
        ("unix:/" + "é" * 54, "longer than the 107 bytes"),
        ("fd://", "is not a file descriptor"),
        ("fd://-1", "is not a file descriptor"),
        ("fd://x", "is not a file descriptor"),
    ],
)
def test_an_invalid_address_is_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(BindSyntaxError) as caught:
        parse_bind(text)
    assert says in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        bind = parse_bind(text)
    except BindSyntaxError:
        return
    assert parse_bind(str(bind)) == bind


@for_each(
    ("texts", "only"),
    [
        (["[::]:80"], [False]),
        (["[::]:80", "0.0.0.0:80"], [True, False]),
        (["localhost:80", "[::]:80"], [False, True]),
        (["[::]:80", "0.0.0.0:81"], [False, False]),
        (["[::]:80", "udp://0.0.0.0:80"], [False, False]),
        (["udp://[::]:53", "udp://127.0.0.1:53"], [True, False]),
        (["[::]:0", "0.0.0.0:0"], [False, False]),
    ],
)
def test_an_ipv6_address_serves_both_families_unless_ipv4_has_its_port(texts: list[str], only: list[bool]) -> None:
    binds = with_families([parse_bind(text) for text in texts], ipv6_only=False)
    assert [bind.ipv6_only and ":" in bind.host for bind in binds if isinstance(bind, TcpBind | UdpBind)] == only


def test_ipv6_only_is_for_all_addresses_that_have_a_family() -> None:
    binds = with_families([parse_bind(text) for text in ("[::]:80", "udp://[::]:53", "unix:/x")], ipv6_only=True)
    assert [getattr(bind, "ipv6_only", None) for bind in binds] == [True, True, None]


@for_each("text", ["127.0.0.1:1", "[::1]:1", "udp://[::1]:1", "unix:/a", "unix:@a", "fd://7"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_bind(text)) == text
