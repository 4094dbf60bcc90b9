"""Titles of processes, as ps(1) shows them, in forked children."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybrid.supervisor.children import titles

# CPython 3.12 warns of a fork beside threads, which test runners have
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def name() -> str:
    return Path("/proc/self/comm").read_text().rstrip("\n")


def in_child(what: Callable[[], str]) -> str:
    """Return what a function returns in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, what().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


def shown(show: Callable[[], object]) -> str:
    """Return the name of a process after a call."""
    return in_child(lambda: [show(), name()][1])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("service", "slot", "expected"),
    [
        ("web", 0, "hybrid: web/0"),
        ("frontend", 12, "frontend/12"),
        ("web.cpu", 0, "web.cpu/0"),
        ("web.mailer", 63, "web.mailer/63"),
        ("shop-frontend", 1023, "shop-front/1023"),
        ("é" * 9, 3, "éééééé/3"),
    ],
)
def test_a_worker_shows_its_service_and_its_whole_slot(service: str, slot: int, expected: str) -> None:
    assert shown(lambda: titles.of_worker(service, slot)) == expected


def test_a_zygote_shows_that_it_is_one() -> None:
    assert shown(lambda: titles.of_zygote("web")) == "hybrid-zygote"


def test_a_supervisor_shows_its_name_and_takes_it_back() -> None:
    def names() -> str:
        before = name()
        with titles.of_supervisor("shop"):
            inside = name()
        return f"{inside}, {name() == before}"

    assert in_child(names) == "hybrid: shop, True"


def test_with_setproctitle_the_whole_title_is_shown() -> None:
    def titled() -> str:
        given = ["python -m shop"]
        sys.modules["setproctitle"] = SimpleNamespace(  # type: ignore[assignment]
            getproctitle=lambda: given[-1], setproctitle=given.append
        )
        with titles.of_supervisor("a-name-of-many-letters"):
            titles.of_worker("a-name-of-many-letters", 3)
            titles.of_zygote("a-name-of-many-letters")
        return "\n".join(given)

    assert in_child(titled).split("\n") == [
        "python -m shop",
        "hybrid: a-name-of-many-letters",
        "hybrid: a-name-of-many-letters/3",
        "hybrid: a-name-of-many-letters zygote",
        "python -m shop",
    ]
