"""Forwarding headers: trusted peers, and the values taken from their headers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.workers.http.forwarded import Endpoint, Forwarded, Proxies, endpoint

PROXY = ("10.0.0.1", 4711)
TRUSTED = ("10.0.0.0/8", "2001:db8::/32")
Headers = list[tuple[bytes, bytes]]


def resolved(
    headers: Headers,
    allowed: tuple[str, ...] = TRUSTED,
    client: Endpoint | None = PROXY,
    family: str = "x-forwarded",
    *,
    trusts_host: bool = True,
) -> Forwarded:
    return Proxies(allowed, family, trusts_host=trusts_host).resolve(client, "http", b"inner", headers)


def of_forwarded(*lines: bytes, allowed: tuple[str, ...] = TRUSTED) -> Forwarded:
    return resolved([(b"forwarded", line) for line in lines], allowed, family="forwarded")


def client_of(*lines: bytes, allowed: tuple[str, ...] = TRUSTED) -> Endpoint | None:
    return resolved([(b"x-forwarded-for", line) for line in lines], allowed).client


# -- -- trusted peers


@for_each(
    ("allowed", "host", "trusted"),
    [
        ((), "127.0.0.1", False),
        ((), None, False),
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "127.0.0.2", False),
        (("10.0.0.0/8",), "10.255.0.1", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("::ffff:10.0.0.0/104",), "10.1.2.3", True),
        (("::ffff:10.0.0.1",), "10.0.0.1", True),
        (("::ffff:10.0.0.1",), "10.0.0.2", False),
        (("2001:db8::/32",), "2001:db8:1::9", True),
        (("2001:db8::/32",), "2001:db9::9", False),
        (("::/0",), "10.0.0.1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("2001:db8::/112",), "2001:db8::1", True),
        (("unix",), None, True),
        (("unix",), "", True),
        (("unix",), "127.0.0.1", False),
        (("127.0.0.1",), "", False),
        (("*",), "192.0.2.1", True),
        (("*",), None, True),
        (("10.0.0.0/8",), "no address", False),
    ],
)
def test_a_peer_is_trusted_by_address_network_or_kind(
    allowed: tuple[str, ...], host: str | None, trusted: bool
) -> None:
    proxies = Proxies(allowed)
    assert [proxies.trusts(host), proxies.trusts(host)] == [trusted, trusted]


@for_each("text", ["localhost", "10.0.0.1/8", "", "10.0.0.0/33", "UNIX"])
def test_an_invalid_peer_is_refused_when_the_worker_starts(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address, a network"):
        Proxies(("127.0.0.1", text))


def test_more_peers_than_the_cache_holds_are_judged_correctly() -> None:
    proxies = Proxies(("10.0.0.0/17",))
    for number in range(5000):
        assert proxies.trusts(f"10.0.{number % 256}.{number // 256}") == (number % 256 < 128)
    assert len(proxies._known) <= 1024


# -- X-Forwarded-*


@for_each(
    ("line", "client"),
    [
        (b"192.0.2.7", ("192.0.2.7", 0)),
        (b"192.0.2.7:5000", ("192.0.2.7", 5000)),
        (b"198.51.100.9, 192.0.2.7", ("192.0.2.7", 0)),
        (b"198.51.100.9, 192.0.2.7, 10.0.0.2,10.0.0.3", ("192.0.2.7", 0)),
        (b"10.0.0.4, 10.0.0.3", ("10.0.0.4", 0)),
        (b" , 192.0.2.7 ,, 10.0.0.2 ,", ("192.0.2.7", 0)),
        (b"2001:db9::1", ("2001:db9::1", 0)),
        (b"[2001:DB9::1]:443, [2001:db8::5]", ("2001:db9::1", 443)),
        (b"::ffff:192.0.2.7", ("192.0.2.7", 0)),
        (b"192.0.2.7, unknown", PROXY),
        (b"192.0.2.7, unknown, 10.0.0.2", ("10.0.0.2", 0)),
        (b"192.0.2.7, evil\x00", PROXY),
        (b"192.0.2.7, 1.2.3.999", PROXY),
        (b"192.0.2.7, [1.2.3.4]", PROXY),
        (b"192.0.2.7, 1:::2", PROXY),
        (b"192.0.2.7, fe80::1%eth0", PROXY),
        (b"192.0.2.7, " + b"1" * 200, PROXY),
        (b"", PROXY),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(line: bytes, client: Endpoint) -> None:
    assert client_of(line) == client


def test_several_lines_are_one_list() -> None:
    assert client_of(b"198.51.100.9", b"192.0.2.7", b"10.0.0.2") == ("192.0.2.7", 0)


@pytest.mark.parametrize("line", [b"192.0.2.7, 198.51.100.9", b"junk, 192.0.2.7, unknown, 10.0.0.2"])
def test_with_all_peers_trusted_the_client_is_the_leftmost_address(line: bytes) -> None:
    assert client_of(line, allowed=("*",)) == ("192.0.2.7", 0)


@for_each(
    ("value", "scheme"),
    [
        (b"https", "https"),
        (b"HTTPS", "https"),
        (b"wss", "https"),
        (b"ws", "http"),
        (b"https, http", "http"),
        (b"http, https", "https"),
        (b"http , https ", "https"),
        (b"https, gopher", "http"),
        (b"gopher", "http"),
        (b"", "http"),
        (b"https,", "https"),
        (b"htt\x00ps", "http"),
    ],
)
def test_without_addresses_the_peers_own_scheme_is_used(value: bytes, scheme: str) -> None:
    assert resolved([(b"x-forwarded-proto", value)]).scheme == scheme


@for_each(
    ("addresses", "schemes", "scheme"),
    [
        (b"192.0.2.7", b"https, http", "http"),
        (b"192.0.2.7, 10.0.0.2", b"https, http", "https"),
        (b"192.0.2.7, 10.0.0.2", b"http, https", "http"),
        (b"192.0.2.7, 10.0.0.2", b"https", "https"),
        (b"192.0.2.7, 10.0.0.2", b"http, https, http", "https"),
        (b"6.6.6.6, 192.0.2.7, 10.0.0.2", b"http, https, http", "https"),
        (b"192.0.2.7, 10.0.0.2", b"gopher, https", "https"),
        (b"192.0.2.7, unknown", b"https, http", "http"),
    ],
)
def test_as_many_schemes_as_addresses_are_read(addresses: bytes, schemes: bytes, scheme: str) -> None:
    assert resolved([(b"x-forwarded-for", addresses), (b"x-forwarded-proto", schemes)]).scheme == scheme


def test_several_scheme_lines_are_one_list() -> None:
    lines = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http")]
    assert resolved([*lines, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2")]).scheme == "https"
    assert resolved([*lines, (b"x-forwarded-for", b"192.0.2.7")]).scheme == "http"


def test_as_many_hosts_as_addresses_are_read() -> None:
    hosts = (b"x-forwarded-host", b"evil, outer, inner.test")
    assert resolved([hosts, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2")]).host == b"outer"
    assert resolved([hosts, (b"x-forwarded-for", b"192.0.2.7")]).host == b"inner.test"


@pytest.mark.parametrize(
    ("family", "header"),
    [("x-forwarded", (b"x-forwarded-host", b"outer")), ("forwarded", (b"forwarded", b"for=192.0.2.7;host=outer"))],
)
def test_a_host_is_trusted_only_if_configured(family: str, header: tuple[bytes, bytes]) -> None:
    assert resolved([header], family=family, trusts_host=True).host == b"outer"
    assert resolved([header], family=family, trusts_host=False).host == b"inner"


@pytest.mark.parametrize("name", [b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-server", b"script-name"])
@pytest.mark.parametrize("family", ["x-forwarded", "forwarded"])
def test_other_headers_are_ignored(name: bytes, family: str) -> None:
    assert resolved([(name, b"443")], family=family) == Forwarded(PROXY, "http", b"inner")


@for_each("host", [b"example.com", b"example.com:8443", b"[2001:db8::1]:80", b"a_b.internal", b"192.0.2.1"])
def test_a_valid_host_is_used(host: bytes) -> None:
    assert resolved([(b"x-forwarded-host", b"first.example, " + host)]).host == host


@for_each(
    "host",
    [b"", b"a b", b"a\r\nx: y", b"a/b", b"user@a", b"a:99999", b"a:", b"[::1", b"a\x00", b"\xff", b"a" * 300, b"a:1:2"],
)
def test_an_invalid_host_is_ignored(host: bytes) -> None:
    assert resolved([(b"x-forwarded-host", host)]).host == b"inner"


# -- RFC 7239


@for_each(
    ("line", "client"),
    [
        (b"for=192.0.2.43", ("192.0.2.43", 0)),
        (b'For="[2001:db9:cafe::17]:4711"', ("2001:db9:cafe::17", 4711)),
        (b"for=192.0.2.60;proto=http;by=203.0.113.43", ("192.0.2.60", 0)),
        (b"for=192.0.2.43, for=198.51.100.17", ("198.51.100.17", 0)),
        (b"for=192.0.2.43, for=10.0.0.9", ("192.0.2.43", 0)),
        (b'for="192.0.2.43:_hidden"', ("192.0.2.43", 0)),
        (b'for="192.0.2.43:99999"', PROXY),
        (b"for=192.0.2.43:80", ("192.0.2.43", 80)),
        (b'for="192.0.\\2.43"', ("192.0.2.43", 0)),
        (b"for=192.0.2.43, for=unknown", PROXY),
        (b"for=192.0.2.43, for=_hidden, for=10.0.0.9", ("10.0.0.9", 0)),
        (b"for=192.0.2.43, proto=https", PROXY),
        (b" ;for=192.0.2.43 ; proto=http ;, ,", ("192.0.2.43", 0)),
        (b'secret="a, for=1.2.3.4";for=192.0.2.43', ("192.0.2.43", 0)),
    ],
)
def test_the_client_of_a_forwarded_header(line: bytes, client: Endpoint) -> None:
    found = of_forwarded(line)
    assert (found.client, found.error) == (client, None)


def test_scheme_and_host_are_the_clients_as_far_as_trusted_proxies_report_them() -> None:
    said = (
        b"for=6.6.6.6;proto=http;host=evil",
        b"for=192.0.2.1;proto=https;host=outer:444",
        b"for=10.0.0.2;proto=http;host=inner",
    )
    assert of_forwarded(b", ".join(said)) == Forwarded(("192.0.2.1", 0), "https", b"outer:444")


def test_an_element_without_scheme_defers_to_the_next_trusted_one() -> None:
    found = of_forwarded(b"proto=http, for=192.0.2.1, for=10.0.0.2;proto=https;host=outer")
    assert found == Forwarded(("192.0.2.1", 0), "https", b"outer")


def test_several_forwarded_lines_are_one_list() -> None:
    found = of_forwarded(b"for=6.6.6.6", b"for=192.0.2.1, for=10.0.0.3", b"for=10.0.0.2")
    assert found.client == ("192.0.2.1", 0)


def test_with_all_peers_trusted_the_leftmost_element_counts() -> None:
    said = b"for=unknown, for=192.0.2.1;proto=https, for=_x, for=198.51.100.1;proto=http"
    assert of_forwarded(said, allowed=("*",)) == Forwarded(("192.0.2.1", 0), "https", b"inner")


@for_each(
    "line",
    [
        b'for="192.0.2.1',
        b"for=a b",
        b"for",
        b"for=",
        b"=x",
        b"for=1.2.3.4;for=1.2.3.4",
        b"for=\x00",
        b'for="\x00"',
        b"\n",
    ],
)
def test_a_malformed_forwarded_line_is_ignored_and_reported(line: bytes) -> None:
    assert of_forwarded(line) == Forwarded(PROXY, "http", b"inner", "Forwarded cannot be parsed")


def test_a_malformed_line_left_of_the_client_is_never_read() -> None:
    assert of_forwarded(b'for="open', b"for=192.0.2.1") == Forwarded(("192.0.2.1", 0), "http", b"inner")


# -- both families


@pytest.mark.parametrize("forwarded", [b"for=192.0.2.9;proto=https;host=evil", b'for="open', b"\n"])
def test_the_other_family_is_always_ignored(forwarded: bytes) -> None:
    headers = [
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"http"),
        (b"x-forwarded-host", b"outer"),
        (b"forwarded", forwarded),
    ]
    assert resolved(headers) == Forwarded(("192.0.2.1", 0), "http", b"outer")
    assert resolved(headers[3:]) == Forwarded(PROXY, "http", b"inner")


def test_x_forwarded_is_ignored_if_the_proxy_writes_forwarded() -> None:
    headers = [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-proto", b"http"), (b"x-forwarded-host", b"evil")]
    assert resolved(headers, family="forwarded") == Forwarded(PROXY, "http", b"inner")
    found = resolved([*headers, (b"forwarded", b"for=192.0.2.1;proto=https;host=outer")], family="forwarded")
    assert found == Forwarded(("192.0.2.1", 0), "https", b"outer")


# -- -- arbitrary input

garbage = st.binary(max_size=60) | st.text(alphabet='for=host;,"\\_ \t1.2:[]%*', max_size=60).map(str.encode)
fields = st.lists(
    st.tuples(
        st.sampled_from([b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"cookie"]),
        garbage,
    ),
    max_size=5,
)


@given(
    fields,
    st.sampled_from([TRUSTED, ("*",), ("unix",), ()]),
    st.sampled_from([PROXY, None, ("evil", 1)]),
    st.sampled_from(["x-forwarded", "forwarded"]),
)
def test_no_bytes_raise_and_the_result_is_well_formed(
    headers: Headers, allowed: tuple[str, ...], client: Endpoint | None, family: str
) -> None:
    found = resolved(headers, allowed, client, family)
    assert found.scheme in {"http", "https"}
    assert found.host is not None
    assert found.host.decode("ascii").isprintable()
    assert found.client == client or (found.client is not None and endpoint(found.client[0].encode()) is not None)


@given(fields)
def test_an_untrusted_peer_changes_nothing(headers: Headers) -> None:
    assert resolved(headers, client=("192.0.2.1", 7)) == Forwarded(("192.0.2.1", 7), "http", b"inner")
    assert resolved(headers, client=None) == Forwarded(None, "http", b"inner")


@given(garbage)
def test_a_prefix_from_the_client_does_not_hide_its_address(said: bytes) -> None:
    line = said + b", 192.0.2.66"
    assert client_of(line) == ("192.0.2.66", 0)
    assert of_forwarded(said, b"for=192.0.2.66").client == ("192.0.2.66", 0)


@for_each("filler", [b" ", b"\t", b'"', b"\\", b",", b";", b"a", b"a=", b'a="', b":", b"1"])
def test_the_time_for_a_long_line_is_proportional_to_its_length(filler: bytes) -> None:
    line = filler * (64_000 // len(filler)) + b"\x00"
    start = time.process_time()
    of_forwarded(line, allowed=("*",))
    resolved([(b"x-forwarded-for", line), (b"x-forwarded-proto", line), (b"x-forwarded-host", line)], ("*",))
    assert time.process_time() - start < 1.0
