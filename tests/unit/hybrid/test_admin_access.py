"""Who may ask the admin process."""

from __future__ import annotations

from support.rows import for_each

from hybrid.admin.access import COOKIE, Denial, Need, cookie_of, denial, is_token
from hybrid.admin.settings import AdminSettings

TOKEN = "0123456789abcdef"
OPEN, LOCKED = AdminSettings(), AdminSettings(TOKEN)
ACTING = AdminSettings(TOKEN, may_act=True)
BEARER = {"authorization": f"Bearer {TOKEN}", "host": "shop:9100"}


def test_a_probe_needs_nothing() -> None:
    assert denial(Need.NOTHING, LOCKED, {"host": "elsewhere"}, {}) is None


@for_each(
    "host",
    [
        "localhost:9100",
        "127.0.0.1:9100",
        "127.0.0.2",
        "[::1]:9100",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "shop.localhost",
        "",
    ],
)
def test_without_a_token_a_name_of_this_machine_is_enough(host: str) -> None:
    assert denial(Need.LOOK, OPEN, {"host": host}, {}) is None


@for_each("host", ["evil.example", "127.0.0.1.evil.example", "a@localhost", "[::1", "localhost/x"])
def test_without_a_token_another_name_is_refused(host: str) -> None:
    assert denial(Need.LOOK, OPEN, {"host": host}, {}) is Denial.HOST


def test_a_token_is_taken_from_the_header_or_the_cookie() -> None:
    assert denial(Need.LOOK, LOCKED, BEARER, {}) is None
    assert denial(Need.LOOK, LOCKED, {"authorization": f"bearer  {TOKEN}"}, {}) is None
    assert denial(Need.LOOK, LOCKED, {}, {COOKIE: cookie_of(TOKEN)}) is None


@for_each("given", ["", "Bearer", f"Basic {TOKEN}", "Bearer 0123456789abcdeg", "Bearer é"])
def test_another_token_is_refused(given: str) -> None:
    assert denial(Need.LOOK, LOCKED, {"authorization": given, "host": "localhost"}, {}) is Denial.TOKEN


def test_a_change_needs_actions_switched_on() -> None:
    assert denial(Need.ACT, LOCKED, BEARER, {}) is Denial.ACTIONS
    assert denial(Need.ACT, ACTING, BEARER, {}) is None
    assert denial(Need.ACT, ACTING, {}, {}) is Denial.TOKEN


def test_a_change_of_another_site_is_refused() -> None:
    assert denial(Need.ACT, ACTING, {**BEARER, "origin": "http://evil.example"}, {}) is Denial.ORIGIN
    assert denial(Need.ACT, ACTING, {**BEARER, "sec-fetch-site": "cross-site"}, {}) is Denial.ORIGIN
    assert denial(Need.ACT, ACTING, {**BEARER, "origin": "null"}, {}) is Denial.ORIGIN
    assert denial(Need.ACT, ACTING, {**BEARER, "origin": "http://["}, {}) is Denial.ORIGIN
    assert denial(Need.ACT, ACTING, {**BEARER, "origin": "http://shop:9100"}, {}) is None


def test_only_the_token_logs_in() -> None:
    assert is_token(TOKEN, LOCKED)
    assert not is_token("", LOCKED)
    assert not is_token("\ud800", LOCKED)
    assert not is_token("", OPEN)


def test_the_cookie_is_not_the_token_and_fits_into_a_header() -> None:
    assert TOKEN not in cookie_of(TOKEN)
    assert cookie_of('a;b"c d').isalnum()
    assert denial(Need.LOOK, LOCKED, {}, {COOKIE: TOKEN}) is Denial.TOKEN
