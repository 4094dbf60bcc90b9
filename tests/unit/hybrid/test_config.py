"""`Service`: good values are accepted, and the error for a bad one names it and the allowed values."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from support.rows import for_each

from hybrid.config.offload import check_dask
from hybrid.config.service import ConfigError, Service


def handle(sock: object, address: object) -> None:
    """A target."""


GOOD: list[tuple[str, Any]] = [
    ("target", "app:handle"),
    ("target", "package.app:Class.method"),
    ("target", handle),
    ("target", lambda sock, address: None),
    ("bind", "127.0.0.1:0"),
    ("bind", ["127.0.0.1:1", "unix:/x"]),
    ("workers", 1),
    ("workers", 1024),
    ("offload_to", "tls://scheduler.example:8786"),
    ("offload_to", "tcp://[::1]:8786"),
    ("offload_fallback", "local"),
    ("workers", "auto"),
    ("graceful_timeout", 0),
    ("graceful_timeout", 0.5),
    ("boot_timeout", 86_400),
    ("backoff", 0.001),
    ("backlog", 65_535),
    ("max_connections", 0),
    ("ipv6_only", True),
    ("unix_mode", 0o777),
    ("name", "my-service_1.x"),
    ("pidfile", Path("x.pid")),
    ("chdir", os.curdir),
    ("user", "nobody"),
    ("user", 0),
    ("group", 65_534),
    ("pin", True),
    ("log_format", "json"),
    ("log_level", "debug"),
    ("interface", "datagram"),
    ("interface", "wsgi"),
    ("interface", "asgi"),
]

BAD: list[tuple[str, Any, str]] = [
    ("target", "app", "write module:attribute, e.g. app:handle"),
    ("target", "", "module:attribute"),
    ("target", 5, "callable"),
    ("target", None, "callable"),
    ("bind", [], "at least one"),
    ("bind", [8000], "as text"),
    ("bind", [None, 5], "None: give addresses as text"),
    ("workers", 0, "1 to 1024"),
    ("workers", 1025, "1 to 1024"),
    ("offload_to", "scheduler:8786", "e.g. tcp://scheduler:8786"),
    ("offload_to", "tcp://scheduler", "e.g. tcp://scheduler:8786"),
    ("offload_to", "tcp://scheduler:70000", "e.g. tcp://scheduler:8786"),
    ("offload_to", "tcp://user@scheduler:1", "e.g. tcp://scheduler:8786"),
    ("offload_to", 8786, "e.g. tcp://scheduler:8786"),
    ("offload_fallback", "remote", "fail"),
    ("workers", "many", "'auto' or a number"),
    ("workers", True, "1 to 1024"),
    ("workers", 1.0, "1 to 1024"),
    ("loop", 3, "name"),
    ("interface", "wsgj", "auto, stream, protocol, datagram, wsgi, asgi"),
    ("name", "", "letters"),
    ("name", "two words", "letters"),
    ("name", "a/b", "letters"),
    ("name", "x" * 65, "64"),
    ("name", None, "letters"),
    ("graceful_timeout", -1, "from 0 to 86400 (seconds)"),
    ("graceful_timeout", math.inf, "from 0"),
    ("graceful_timeout", math.nan, "from 0"),
    ("graceful_timeout", "30s", "from 0"),
    ("graceful_timeout", True, "from 0"),
    ("boot_timeout", 0, "from 0.01"),
    ("backoff", 0, "from 0.001"),
    ("backoff", 20.0, "at least the first pause"),
    ("backoff_max", 0.01, "at least the first pause"),
    ("backlog", 0, "from 1 to 65535"),
    ("backlog", 1.5, "whole number"),
    ("max_connections", -1, "from 0"),
    ("unix_mode", 0o1000, "0o777"),
    ("unix_mode", -1, "0o777"),
    ("unix_mode", "600", "0o777"),
    ("pidfile", "", "path"),
    ("pidfile", 5, "path"),
    ("chdir", "/nowhere/at/all", "no such directory"),
    ("chdir", 7, "path"),
    ("user", "", "name or a number"),
    ("group", 1.5, "name or a number"),
    ("pin", "yes", "True or False"),
    ("log_format", "xml", "text, json"),
    ("log_level", "LOUD", "debug, info, warning, error"),
]


@for_each(("field", "value"), GOOD)
def test_a_good_value_is_taken(field: str, value: Any) -> None:
    assert getattr(Service(**{field: value}), field) == value


@for_each(("field", "value", "allowed"), BAD)
def test_the_error_for_a_bad_value_has_the_allowed_values(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Service(**{field: value})
    assert allowed in caught.value.reason
    assert str(caught.value) == f"{caught.value.field}: {caught.value.reason}"


@for_each(("field", "value"), [(field, value) for field, value, _ in BAD if field[:7] != "backoff"])
def test_the_error_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Service(**{field: value})
    assert caught.value.field == field


def test_the_default_target_is_the_demonstration() -> None:
    assert Service().target == "hybrid.demonstration.app:handle"


def test_a_single_address_counts_as_a_list_of_one() -> None:
    assert Service(bind="127.0.0.1:0").binds == ("127.0.0.1:0",)


def test_a_relative_pidfile_is_in_the_working_directory(tmp_path: Path) -> None:
    assert Service(chdir=tmp_path, pidfile="run/x.pid").pidfile_path == tmp_path / "run/x.pid"


def test_an_absolute_pidfile_stays_where_it_is(tmp_path: Path) -> None:
    assert Service(chdir=tmp_path, pidfile="/run/x.pid").pidfile_path == Path("/run/x.pid")


def test_without_a_pidfile_there_is_no_path() -> None:
    assert Service().pidfile_path is None


def test_only_the_target_is_positional() -> None:
    with pytest.raises(TypeError):
        Service("app:handle", "127.0.0.1:0")  # type: ignore[misc]


def test_a_local_fallback_needs_offload_workers() -> None:
    with pytest.raises(ConfigError, match="offload_fallback: 'local' needs offload workers"):
        Service(offload_to="tcp://x:1", offload_fallback="local", offload_workers=0)


def test_a_cluster_needs_dask() -> None:
    with pytest.raises(ConfigError, match=r"offload_to: this needs Dask: pip install 'hybrid-runtime\[dask\]'"):
        check_dask(lambda name: None)
