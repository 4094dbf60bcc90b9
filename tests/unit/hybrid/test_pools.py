"""Pools of offload workers in the configuration: as values, as text, as tables of a file; and their mistakes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.rows import for_each

from hybrid import Companion, ConfigError, OffloadPool, Service
from hybrid.config.declaring import declared
from hybrid.config.file import FileError, read
from hybrid.config.pools import MOST_NAMES, pool_text, read_pool
from hybrid.plans import Plans
from hybrid.workers.contract.scoreboard import MOST_POOLS

# --- as text


@for_each(
    ("text", "pool"),
    [
        ("ml", OffloadPool("ml")),
        ("ml=2", OffloadPool("ml", workers=2)),
        (" ml = auto , timeout = 30s ", OffloadPool("ml", workers="auto", timeout=30.0)),
        ("a.b-c,max_memory=2G,at_start=true", OffloadPool("a.b-c", max_memory=2 << 30, at_start=True)),
        ("ml=1,queue=5,nice=0,at_start=false", OffloadPool("ml", queue=5, nice=0, at_start=False)),
    ],
)
def test_a_pool_is_a_name_with_options(text: str, pool: OffloadPool) -> None:
    assert read_pool(text) == pool
    assert read_pool(pool_text(pool)) == pool


@for_each(
    ("text", "reason"),
    [
        ("", "'': use up to 32 letters, digits, dots, dashes and underscores as the name of a pool"),
        ("a/b", "'a/b': use up to 32 letters"),
        ("p" * 33, "use up to 32 letters"),
        ("cpu=2", "'cpu': this is the name of the offload workers; choose another"),
        ("dask", "'dask': this is the name of the gateway to a Dask cluster; choose another"),
        ("ml=0", "pool ml: workers: 0: use 'auto' or a number from 1 to 64"),
        ("ml=65", "pool ml: workers: 65: use 'auto' or a number from 1 to 64"),
        ("ml=two", "pool ml: workers: 'two': use 'auto' or a number"),
        ("ml=2,30s", "'ml=2,30s' is not a pool of offload workers: write NAME, NAME=WORKERS or"),
        ("ml,speed=2", "unknown key 'speed' of the pool ml: it has workers, at_start, timeout, queue, max_result"),
        ("ml,queue=many", "pool ml: queue: 'many': use a whole number from 1"),
        ("ml,at_start=maybe", "pool ml: at_start: 'maybe': use True or False"),
        ("ml,nice=20", "pool ml: nice: 20: use a whole number from 0 to 19"),
    ],
)
def test_a_mistake_says_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_pool(text)


# --- as values


@for_each(
    ("pools", "reason"),
    [
        ([OffloadPool("ml"), OffloadPool("ml", workers=2)], "two pools are called 'ml'"),
        ([OffloadPool(f"p{number}") for number in range(MOST_NAMES + 1)], "8 pools: use at most 7 names"),
        ("ml", "'ml': give OffloadPool(name)"),
        (["ml"], "'ml': give OffloadPool(name)"),
        ({"ml": 2}, "give OffloadPool(name)"),
    ],
)
def test_a_service_checks_them_together(pools: Any, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Service("shop:app", offload_pools=pools)
    assert reason in caught.value.reason


def test_a_pool_may_not_have_the_name_of_a_companion() -> None:
    with pytest.raises(ConfigError, match="'ml' is the name of a companion: choose another"):
        Service("shop:app", companions=[Companion("ml", "a:b")], offload_pools=[OffloadPool("ml")])


def test_a_pool_may_not_have_the_name_of_a_service() -> None:
    web = Service("shop:app", name="web", offload_pools=[OffloadPool("ml")])
    with pytest.raises(ConfigError, match="its pool 'ml' is called"):
        Plans.of([web, Service("a:b", name="web.ml", bind="[::1]:1")], travels=False)


def test_the_record_of_a_process_has_room_for_all_pools() -> None:
    assert MOST_NAMES + 1 == MOST_POOLS


# --- in a file


def pools_in(tmp_path: Path, text: str) -> object:
    file = tmp_path / "hybrid.toml"
    file.write_text('[service.web]\ntarget = "shop:app"\n' + text)
    return read(file, declared(Service)).services["web"]["offload"].value


@pytest.mark.parametrize(
    "text",
    [
        '[service.web.offload.ml]\nworkers = 2\ntimeout = "30s"\n',
        "[service.web.offload]\nml = { workers = 2, timeout = 30 }\n",
        'offload = "ml=2,timeout=30s"\n',
        'offload = ["ml=2,timeout=30s"]\n',
    ],
)
def test_a_file_has_them_as_tables_or_as_text(tmp_path: Path, text: str) -> None:
    assert pools_in(tmp_path, text) == (OffloadPool("ml", workers=2, timeout=30.0),)


def test_pools_at_the_top_level_are_those_of_every_service(tmp_path: Path) -> None:
    file = tmp_path / "hybrid.toml"
    file.write_text('[offload.ml]\nworkers = 2\n[service.web]\ntarget = "shop:app"\n')
    found = read(file, declared(Service))
    assert found.defaults["offload"].value == (OffloadPool("ml", workers=2),)


@for_each(
    ("text", "expected"),
    [
        ("[service.web.offload.ml]\nworkers = 0\n", "4:1: workers: 0: use 'auto' or a number from 1 to 64"),
        ('[service.web.offload.ml]\n timeout = "soon"\n', "4:2: timeout: 'soon'"),
        ("[service.web.offload.ml]\nat_start = 1\n", "4:1: at_start: 1: write true or false"),
        ("[service.web.offload.ml]\nworker = 1\n", "4:1: unknown key 'worker' of the pool ml: it has workers"),
        ("[service.web.offload.cpu]\nworkers = 1\n", "3:1: 'cpu': this is the name of the offload workers"),
        ('[service.web.offload."a b"]\nworkers = 1\n', "3:1: 'a b': use up to 32 letters"),
        ("offload = { ml = 3 }\n", "3:1: offload.ml is a table: write [service.NAME.offload.ml]"),
        ("offload = [3]\n", "3:1: offload: 3: give OffloadPool(name)"),
    ],
)
def test_a_mistake_in_a_file_has_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(FileError) as caught:
        pools_in(tmp_path, text)
    assert expected in str(caught.value)
