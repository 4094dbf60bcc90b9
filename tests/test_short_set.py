"""The table of the short set: each kind of behaviour has tests on every loop, each file with such tests has a kind."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.loops import ALL_LOOPS, DEFAULT
from support.short_set import (
    CHOSEN,
    EVERY_VARIANT,
    KINDS,
    LEFT_TO_THE_MATRIX,
    LONG,
    ON_POLLERS,
    POLLED,
    POLLERS,
    REPEATED,
    Kind,
    chosen_variants,
    is_repeated,
    loop_named,
)

HERE = Path(__file__).parent
IN_PROCESS = {"epoll", "asyncio", "uvloop"}  # gevent would change the whole process; select and poll are epoll's hub
FEWER_LOOPS = {
    "test_2_an_answer_may_be_written_out_of_data_received": {*ALL_LOOPS} - {"poll"},  # the hub has one transport
    "test_3_too_much_unsent_pauses_and_little_resumes": {*ALL_LOOPS} - {"poll"},
    "test_9_a_reset_is_told_as_the_error": {*ALL_LOOPS} - {"poll"},
    "test_pieces_are_sent_as_they_come": IN_PROCESS,
    "test_a_request_that_waits_keeps_its_task": IN_PROCESS,
    "test_a_turn_that_does_not_end_is_seen_and_a_loop_that_waits_is_not_busy": {*ALL_LOOPS} - {"uvloop"},  # no turns
    "test_reloads_under_load_lose_no_request": {"epoll", "gevent", "uvloop"},  # one of each sort, as in the matrix
    "test_an_upgrade_under_load_loses_no_request": {"epoll", "gevent", "uvloop"},
    "test_an_offender_is_ended_with_the_reason_and_others_are_served": {"epoll", "gevent", "uvloop"},  # as above
    "test_a_server_sleeps_on_every_loop_when_idle_and_among_a_hundred_idle_connections": set(),  # all at a time
}
TAKES_LOOPS = re.compile(
    r"^from support\.(?:loops|changes|wsgi) import (?:\([^)]*|[^\n]*)\b(?:LOOPS|PLACES|ONE_EACH)\b", re.MULTILINE
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.behaviour)
def test_every_kind_has_a_chosen_test_of_its_files_and_a_reason(kind: Kind) -> None:
    assert kind.chosen
    assert kind.because
    assert {test.partition("::")[0] for test in kind.chosen} <= set(kind.stands_for)


def test_every_file_with_tests_on_several_loops_belongs_to_one_kind() -> None:
    files = {str(file.relative_to(HERE)) for file in HERE.rglob("test_*.py") if TAKES_LOOPS.search(file.read_text())}
    known = [file for kind in KINDS for file in kind.stands_for]
    new, gone = files - set(known), set(known) - files
    assert not new, f"add each to a kind in tests/support/short_set.py, or make a kind and choose a test: {sorted(new)}"
    assert not gone, f"tests/support/short_set.py names files without tests on several loops: {sorted(gone)}"
    assert len(known) == len(set(known))


def test_every_file_that_only_the_matrix_runs_exists() -> None:
    assert all((HERE / file).is_file() and because for file, because in LONG.items())


def test_every_chosen_test_exists_and_runs_on_every_loop() -> None:
    """On select and poll those in which the poller matters."""
    loops: dict[str, set[str]] = {test: set() for test in CHOSEN}
    for (test, loop), identities in variants_of(*CHOSEN).items():
        if loop and chosen_variants(test, loop, identities):
            loops[test].add(loop)
    expected = {test: FEWER_LOOPS.get(test.rpartition("::")[2], {*ALL_LOOPS}) for test in CHOSEN}
    assert loops == {test: found if test in ON_POLLERS else found - set(POLLERS) for test, found in expected.items()}


def test_everything_in_which_a_poller_has_a_part_is_chosen() -> None:
    assert all(POLLED.values())
    assert set(CHOSEN) >= ON_POLLERS


def test_what_runs_in_every_variant_is_chosen_and_has_several_and_a_reason() -> None:
    found = variants_of(*EVERY_VARIANT)
    assert set(EVERY_VARIANT) <= set(CHOSEN)
    for test, because in EVERY_VARIANT.items():
        assert because
        assert any(
            len(chosen_variants(test, loop, found[test, loop])) > 1 for loop in ALL_LOOPS if (test, loop) in found
        )


def test_every_variant_that_is_left_to_the_matrix_exists_and_others_of_its_function_run_on_its_loop() -> None:
    assert all(repeated.because for repeated in REPEATED)
    found = {place: ids for place, ids in variants_of(*LEFT_TO_THE_MATRIX).items() if is_run_as_a_whole(*place)}
    for (test, loop), identities in found.items():
        left = {identity for identity in identities if is_repeated(test, identity)}
        assert left, (test, loop)
        assert left < identities, (test, loop)
    for test, variants in LEFT_TO_THE_MATRIX.items():
        identities = {identity for (known, _), ids in found.items() if known == test for identity in ids}
        for words in variants:
            assert sum(words <= set(identity.split("-")) for identity in identities) == 1, (test, words)


def is_run_as_a_whole(test: str, loop: str | None) -> bool:
    """Return True if all variants of a test on a loop run without HYBRID_TEST_LOOP, but for those that are repeated."""
    return loop in (None, DEFAULT) or not TAKES_LOOPS.search((HERE / test.partition("::")[0]).read_text())


def variants_of(*tests: str) -> dict[tuple[str, str | None], set[str]]:
    """Return the ids of the variants of each FILE::FUNCTION on each loop, or on none."""
    variants: dict[tuple[str, str | None], set[str]] = {}
    for line in collected(tuple(sorted({*CHOSEN, *LEFT_TO_THE_MATRIX}))):
        test, _, identity = line.removeprefix("tests/").removesuffix("]").partition("[")
        loop = loop_named({"": tuple(identity.split("-"))})
        if test in tests:
            variants.setdefault((test, loop), set()).add(identity)
    return variants


@functools.cache
def collected(tests: tuple[str, ...]) -> list[str]:
    """Collect tests in a process of its own, on all loops; return their ids."""
    options = ("--collect-only", "-q", "--assert=plain", "-p", "no:randomly", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=HERE.parent,
        env={**os.environ, "HYBRID_TEST_LOOP": "all"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]
