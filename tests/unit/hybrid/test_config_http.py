"""`Service`, the part about web applications: values, contradictions, and that its defaults are the workers'."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from support.rows import for_each

from hybrid.config.http import HttpFields
from hybrid.config.service import ConfigError, Service
from hybrid.workers.http.settings import HttpSettings, Limits

LIMITS = tuple(field.name for field in dataclasses.fields(Limits))
TLS = {"certfile": "cert.pem"}

GOOD: list[dict[str, Any]] = [
    {"factory": True},
    {"root_path": ""},
    {"root_path": "/shop"},
    {"root_path": "/shop/of/häuser"},
    {"threads": 0},
    {"threads": 1024},
    {"threads": 4, "loop": "asyncio"},
    {"threads": 0, "loop": "gevent"},
    {"loop": "gevent"},
    {"lifespan": "on"},
    {"lifespan": "off"},
    {"server_header": False, "date_header": False, "underscore_headers": True, "websocket_compression": False},
    {"pathsend": True},
    {"max_body_size": 1 << 40},
    {"keep_alive_timeout": 0.25},
    {**TLS, "keyfile": Path("key.pem"), "keyfile_password": "x", "ciphers": "ECDHE+AESGCM", "sni_hook": "app:hook"},
    {**TLS, "ca_certs": "ca.pem"},
    {**TLS, "ca_certs": "ca.pem", "client_certificate": "optional"},
    {**TLS, "client_certificate": "none"},
    {"client_certificate": "none"},
    {"forwarded_allow_ips": "*"},
    {"forwarded_allow_ips": "127.0.0.1, 10.0.0.0/8,unix"},
    {"forwarded_allow_ips": ["::1", "fd00::/8", "192.168.1.1/32"]},
    {"forwarded_allow_ips": ()},
    {"forwarded_allow_ips": "unix", "forwarded_headers": "forwarded", "forwarded_host": True},
    {"proxy_protocol": True},
    {"access_log": "common"},
    {"access_log": "combined"},
    {"access_log": "json"},
    {"access_log": "%(h)s %(s)s"},
]

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("factory", {"factory": 1}, "True or False"),
    ("server_header", {"server_header": "no"}, "True or False"),
    ("proxy_protocol", {"proxy_protocol": None}, "True or False"),
    ("root_path", {"root_path": "shop"}, "begin with a slash and end without one, e.g. '/shop'"),
    ("root_path", {"root_path": "/shop/"}, "end without one"),
    ("root_path", {"root_path": "/"}, "end without one"),
    ("root_path", {"root_path": "/a?b"}, "begin with a slash"),
    ("root_path", {"root_path": "/a\r\nb"}, "begin with a slash"),
    ("root_path", {"root_path": None}, "as text"),
    ("threads", {"threads": -1}, "a whole number from 0 to 1024"),
    ("threads", {"threads": 1025}, "a whole number from 0 to 1024"),
    ("threads", {"threads": 2.0}, "a whole number from 0 to 1024"),
    ("threads", {"threads": True}, "a whole number from 0 to 1024"),
    ("threads", {"threads": 4, "loop": "gevent"}, "requests run in greenlets on gevent: leave --threads out"),
    ("lifespan", {"lifespan": "maybe"}, "auto, on, off"),
    ("max_request_line", {"max_request_line": -1}, "from 0 to 1073741824 (bytes; 0: no limit)"),
    ("max_body_size", {"max_body_size": 1.5}, "a whole number from 0 to 8796093022208 (bytes; 0: no limit)"),
    ("min_body_rate", {"min_body_rate": "fast"}, "(bytes per second; 0: no limit)"),
    ("header_timeout", {"header_timeout": math.nan}, "from 0 to 86400 (seconds; 0: no limit)"),
    ("max_headers", {"max_headers": 1e9}, "a whole number from 0 to 1000000000 (0: no limit)"),
    ("websocket_ping_interval", {"websocket_ping_interval": -1}, "(seconds; 0: no pings)"),
    ("certfile", {"certfile": ""}, "path"),
    ("keyfile", {**TLS, "keyfile": 5}, "path"),
    ("keyfile", {"keyfile": "key.pem"}, "give --certfile too"),
    ("keyfile_password", {"keyfile_password": "secret"}, "give --certfile too"),
    ("keyfile_password", {**TLS, "keyfile_password": b"secret"}, "a text that is not empty"),
    ("ca_certs", {"ca_certs": "ca.pem"}, "give --certfile too"),
    ("ciphers", {"ciphers": "ALL"}, "give --certfile too"),
    ("ciphers", {**TLS, "ciphers": ""}, "a text that is not empty"),
    ("sni_hook", {"sni_hook": "app:hook"}, "give --certfile too"),
    ("sni_hook", {**TLS, "sni_hook": "app.py"}, "module:attribute"),
    ("client_certificate", {**TLS, "client_certificate": "required"}, "give the accepted authorities"),
    ("client_certificate", {**TLS, "client_certificate": "optional"}, "--ca-certs"),
    ("client_certificate", {**TLS, "ca_certs": "ca.pem", "client_certificate": "none"}, "leave it out, or --ca-certs"),
    ("client_certificate", {**TLS, "client_certificate": "perhaps"}, "use one of none, optional, required"),
    ("client_certificate", {**TLS, "client_certificate": ""}, "use one of none, optional, required"),
    ("forwarded_allow_ips", {"forwarded_allow_ips": "localhost"}, "addresses and networks such as 10.0.0.0/8, `unix`"),
    ("forwarded_allow_ips", {"forwarded_allow_ips": "127.0.0.1,10.0.0.1/8"}, "write 10.0.0.0/8 for the network"),
    ("forwarded_allow_ips", {"forwarded_allow_ips": [1]}, "as text"),
    ("forwarded_allow_ips", {"forwarded_allow_ips": None}, "as text"),
    ("forwarded_headers", {"forwarded_allow_ips": "*", "forwarded_headers": "both"}, "one of x-forwarded, forwarded"),
    ("forwarded_headers", {"forwarded_headers": "forwarded"}, "name yours with --forwarded-allow-ips"),
    ("forwarded_host", {"forwarded_host": True}, "name yours with --forwarded-allow-ips"),
    ("forwarded_host", {"forwarded_allow_ips": "*", "forwarded_host": 1}, "True or False"),
    ("access_log", {"access_log": "apache"}, "common, combined, json, or a format with fields such as %(h)s"),
    ("access_log", {"access_log": ""}, "common"),
    ("request_id_header", {"request_id_header": "a b"}, "letters, digits and dashes"),
    ("label_header", {"label_header": "X-Route"}, "labels are counted with --accounting only: add it"),
    ("label_header", {"label_header": "a b", "accounting": True}, "letters, digits and dashes"),
    ("label_header", {"label_header": "Date", "accounting": True}, "Date has a meaning of its own"),
    ("request_id_header", {"request_id_header": "Host"}, "Host has a meaning of its own: choose another name"),
    ("access_log", {"access_log": True}, "common"),
]


@for_each("values", GOOD)
def test_good_values_are_taken(values: dict[str, Any]) -> None:
    service = Service(**values)
    assert {name: getattr(service, name) for name in values} == values


@for_each(("field", "values", "allowed"), BAD)
def test_the_error_for_a_bad_value_has_its_name_and_the_allowed_values(
    field: str, values: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Service(**values)
    assert caught.value.field == field
    assert allowed in caught.value.reason


@for_each("limit", LIMITS)
def test_every_limit_can_be_switched_off_and_cannot_be_negative(limit: str) -> None:
    assert getattr(Service(**{limit: 0}), limit) == 0
    with pytest.raises(ConfigError, match="0: no"):
        Service(**{limit: -1})


@pytest.mark.parametrize("settings", [Limits, HttpSettings])
def test_every_setting_of_the_workers_is_a_field_with_the_same_default(settings: type[Limits | HttpSettings]) -> None:
    service, default = Service(), settings()
    for field in dataclasses.fields(settings):
        if field.name not in ("limits", "tls", "access_fd"):
            assert getattr(service, field.name) == getattr(default, field.name), field.name


def test_every_limit_that_is_a_time_takes_fractions() -> None:
    times = [field.name for field in dataclasses.fields(Limits) if isinstance(field.default, float)]
    assert all(getattr(Service(**{name: 0.5}), name) == 0.5 for name in times)


@for_each(
    ("given", "proxies"),
    [
        ((), ()),
        ("", ()),
        ("10.0.0.1", ("10.0.0.1",)),
        ("10.0.0.1, unix,", ("10.0.0.1", "unix")),
        (["10.0.0.1,10.0.0.2", "::1"], ("10.0.0.1", "10.0.0.2", "::1")),
    ],
)
def test_proxies_may_be_listed_or_separated_by_commas(given: Any, proxies: tuple[str, ...]) -> None:
    assert Service(forwarded_allow_ips=given).trusted_proxies == proxies


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, "none"),
        (TLS, "none"),
        ({**TLS, "ca_certs": "ca.pem"}, "required"),
        ({**TLS, "ca_certs": "ca.pem", "client_certificate": "optional"}, "optional"),
    ],
)
def test_ca_certs_make_a_client_certificate_required(values: dict[str, Any], wanted: str) -> None:
    assert Service(**values).client_certificate_wanted == wanted


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(Service(**TLS, keyfile_password="secret"))
    with pytest.raises(ConfigError) as caught:
        Service(keyfile_password="secret")
    assert "secret" not in str(caught.value)


def test_all_fields_about_http_must_be_named() -> None:
    assert all(field.kw_only for field in dataclasses.fields(HttpFields))
