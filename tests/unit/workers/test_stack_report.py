"""The form of a report of stacks: what has no room is counted, and what is no report is refused."""

from __future__ import annotations

import json

import pytest
from support.rows import for_each

from hybrid.workers.contract.stack_report import (
    MOST_ENTRIES,
    MOST_FRAMES,
    MOST_TEXT,
    SECTIONS,
    ReportError,
    decode,
    encode,
    frame,
    within,
)

FRAME = frame("/srv/app.py", 7, "handler", is_ours=False)
ROOM = 64 * 1024


def task(name: str, frames: int = 1) -> dict[str, object]:
    return {"name": name, "waits_for": None, "frames": [FRAME] * frames}


def written(**fields: object) -> bytes:
    """Return a report as a hostile worker could write it."""
    usual: dict[str, object] = {name: [] for name in SECTIONS}
    return json.dumps({**usual, "left_out": {}, **fields}).encode()


def test_a_report_is_read_as_it_was_written() -> None:
    sections = {
        "threads": [{"name": "MainThread", "is_loop": True, "frames": [FRAME], "is_cut": True}],
        "requests": [
            {"method": "GET", "path": "/a", "seconds": 1.5, "id": "abc"},
            {"method": "GET", "path": "/b", "seconds": None, "id": None},
        ],
        "tasks": [{"name": "Task-1", "waits_for": "a future", "frames": [FRAME], "is_cut": False}],
        "greenlets": [{"name": "gevent.Greenlet", "frames": [FRAME], "is_cut": False}],
    }
    assert decode(encode(sections, {}, ROOM)) == {**sections, "left_out": {}}


def test_frames_of_hybrid_are_marked_and_others_are_not() -> None:
    ours = frame("/lib/hybrid/workers/main.py", None, "main", is_ours=True)
    report = decode(encode({"tasks": [{**task("a"), "frames": [ours, FRAME]}]}, {}, ROOM))
    assert report["tasks"][0]["frames"] == [ours, FRAME]
    assert ours["ours"] is True
    assert "ours" not in FRAME


def test_what_has_no_room_is_left_out_and_counted() -> None:
    report = encode({"tasks": [task(f"Task-{number}") for number in range(100)]}, {"tasks": 9900}, 2048)
    assert len(report) <= 2048
    found = decode(report)
    kept = len(found["tasks"])
    assert 0 < kept < 100
    assert found["left_out"] == {"tasks": 10_000 - kept}


def test_a_deep_stack_does_not_hide_the_shallow_ones_behind_it() -> None:
    kept, left_out = within([task("deep", 90), task("shallow")], 1000)
    assert ([json.loads(text)["name"] for text in kept], left_out) == (["shallow"], 1)


def test_one_section_does_not_take_the_room_of_another() -> None:
    thread = {"name": "x", "is_loop": False, "frames": [FRAME] * 50}
    found = decode(encode({"threads": [thread] * 100, "greenlets": [{"name": "g", "frames": [FRAME]}]}, {}, 32 * 1024))
    assert len(found["greenlets"]) == 1
    assert found["left_out"] == {"threads": 100 - len(found["threads"])}


def test_room_that_threads_leave_is_for_tasks() -> None:
    found = decode(encode({"tasks": [task(f"Task-{number}", 4) for number in range(100)]}, {}, 48 * 1024))
    assert len(found["tasks"]) > 48 * 1024 / 3 / len(json.dumps(task("Task-10", 4)))


@pytest.mark.parametrize("most", [256, 300, 1000, 5000])
def test_a_report_is_never_larger_than_asked(most: int) -> None:
    sections = {name: [task("\ud800\x00é\U0001f600" * 20)] * 300 for name in SECTIONS}
    assert len(encode(sections, dict.fromkeys(SECTIONS, 10**9), most)) <= most


def test_texts_and_paths_are_cut() -> None:
    long = frame("/long" * 1000 + "/app.py", 1, "f" * 1000, is_ours=False)
    assert (len(str(long["file"])), len(str(long["function"]))) == (MOST_TEXT, MOST_TEXT)
    assert str(long["file"]).endswith("/app.py")


def test_fields_that_are_not_known_are_dropped() -> None:
    found = decode(written(tasks=[{**task("a"), "evil": "x" * 1000}], more="y"))
    assert found["tasks"][0].keys() == {"name", "waits_for", "frames", "is_cut"}
    assert "more" not in found


@for_each(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        written(tasks=[[]] * 100_000),
        written(tasks=[{}] * 100_000),
        b"1" * 5000,
        b"{}",
        written(tasks={}),
        written(tasks=[1]),
        written(tasks=[task("a")] * (MOST_ENTRIES + 1)),
        written(tasks=[task("a", MOST_FRAMES + 1)]),
        written(tasks=[{**task("a"), "name": 1}]),
        written(tasks=[{**task("a"), "frames": [{"file": "a", "line": -1, "function": "b"}]}]),
        written(tasks=[{**task("a"), "frames": [{"file": "a", "line": True, "function": "b"}]}]),
        written(tasks=[{**task("a"), "frames": ["a"]}]),
        written(requests=[{"method": "GET", "path": "/", "seconds": "1"}]),
        written(requests=[{"method": "GET", "path": "/", "seconds": float("nan")}]),
        written(requests=[{"method": "GET", "path": "/", "seconds": -1}]),
        written(requests=[{"method": "GET", "path": "/", "seconds": 10**400}]),
        written(left_out=[]),
        written(left_out={"tasks": -1}),
        written(left_out={"tasks": 1e3}),
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ReportError):
        decode(data)
