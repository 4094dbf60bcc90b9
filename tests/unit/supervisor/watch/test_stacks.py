"""Reading the stacks of a stalled worker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dumps import ALONE, DUMPS

from hybrid.supervisor.watch.stacks import SHOWN, Frame, Stack, describe, innermost

OURS = ("/usr/lib/python3.11/site-packages/hybrid",)
PARENT = f"{OURS[0]}/supervisor"
LAUNCHER = (
    ("/usr/lib/python3.11/site-packages/hybrid/workers/entry.py", 90, "main"),
    ("/usr/lib/python3.11/site-packages/hybrid/supervisor/children/spawn.py", 60, "be_worker"),
    ("/usr/lib/python3.11/site-packages/click/core.py", 900, "invoke"),
    ("/usr/lib/python3.11/site-packages/hybrid/cli.py", 40, "main"),
    ("/usr/lib/python3.11/site-packages/click/core.py", 1000, "invoke"),
    ("/usr/local/bin/hybrid", 8, "<module>"),
)
LOOP = (
    ("/usr/lib/python3.11/asyncio/events.py", 80, "_run"),
    ("/usr/lib/python3.11/site-packages/hybrid/workers/hub/selector.py", 50, "select"),
)


def dump(*calls: tuple[str, int, str], heading: str = "Current thread 0x00007f24957bfb80") -> str:
    lines = "".join(f'  File "{file}", line {line} in {function}\n' for file, line, function in calls)
    return f"{heading} (most recent call first):\n{lines}"


def functions(stack: Stack) -> list[str]:
    return [frame.function for frame in stack.frames]


@pytest.mark.parametrize("version", DUMPS)
def test_the_applications_calls_are_found_in_the_dump_of_every_interpreter(version: str) -> None:
    stack = innermost(DUMPS[version], ours=["/usr/bin"])
    assert functions(stack) == ["dump", "handler", "main"]
    assert str(stack.frames[0]) == "/srv/app.py:10 in dump"
    assert stack.leaf is None


@pytest.mark.parametrize("version", DUMPS)
def test_other_threads_of_the_application_are_known_from_a_dump_of_all(version: str) -> None:
    assert innermost(DUMPS[version], OURS).others == (Frame("/srv/app.py", "4", "crunch"),)


@pytest.mark.parametrize("version", ALONE)
def test_a_dump_of_one_thread_does_not_list_others(version: str) -> None:
    stack = innermost(ALONE[version], ours=["/usr/bin"])
    assert functions(stack) == ["dump", "handler", "main"]
    assert stack.others is None


def test_the_frames_that_started_the_worker_are_left_out() -> None:
    stack = innermost(dump(("/srv/app.py", 12, "handler"), *LOOP, *LAUNCHER), OURS, PARENT)
    assert functions(stack) == ["handler"]


def test_an_embedding_program_is_not_taken_for_the_application() -> None:
    program = (("/srv/main.py", 5, "serve"), ("/srv/main.py", 9, "<module>"))
    assert innermost(dump(*LOOP, *LAUNCHER[:2], *program), OURS, PARENT).frames == ()


def test_a_loop_that_stands_in_itself_is_not_in_a_package() -> None:
    hub = ("/usr/lib/python3.11/site-packages/gevent/hub.py", 647, "run")
    stack = innermost(dump(hub, *LAUNCHER), OURS, PARENT)
    assert (stack.frames, str(stack.leaf)) == ((), "/usr/lib/python3.11/site-packages/gevent/hub.py:647 in run")


def test_threads_of_ours_are_not_the_applications() -> None:
    thread = dump((f"{OURS[0]}/workers/apps/wsgi/runners.py", 241, "_work"), heading="\nThread 0x1")
    assert innermost(dump(*LOOP) + thread, OURS).others == ()


def test_a_greenlet_begins_with_a_function_of_the_application() -> None:
    calls = (("/srv/app.py", 3, "inner"), (f"{OURS[0]}/workers/green.py", 9, "wait"), ("/srv/app.py", 7, "outer"))
    assert functions(innermost(dump(*calls), OURS)) == ["inner", "outer"]


def test_a_module_that_hangs_while_it_is_imported_is_found() -> None:
    frozen = ("<frozen importlib._bootstrap>", 241, "_call_with_frames_removed")
    stack = innermost(dump(("/srv/app.py", 3, "<module>"), frozen, *LAUNCHER), OURS, PARENT)
    assert [str(frame) for frame in stack.frames] == ["/srv/app.py:3 in <module>"]


def test_the_innermost_call_precedes_the_applications_frames() -> None:
    calls = (("/usr/lib/python3.11/ssl.py", 1167, "read"), ("/usr/lib/python3.11/site-packages/x/y.py", 2, "get"))
    stack = innermost(dump(*calls, ("/srv/app.py", 12, "handler"), *LAUNCHER), OURS, PARENT)
    assert str(stack) == "  /usr/lib/python3.11/ssl.py:1167 in read\n  /srv/app.py:12 in handler"


@pytest.mark.parametrize("folder", ["lib/python3.11/site-packages", "lib/python3/dist-packages"])
def test_packages_are_shown_if_nothing_else_is_left(folder: str) -> None:
    stack = innermost(dump((f"/usr/{folder}/shop/views.py", 5, "pay"), *LOOP, *LAUNCHER), OURS, PARENT)
    assert functions(stack) == ["pay"]


def test_only_the_innermost_calls_are_shown() -> None:
    stack = innermost(dump(*[("/srv/app.py", number, f"f{number}") for number in range(100)]) + "  ...\n", OURS)
    assert functions(stack) == [f"f{number}" for number in range(SHOWN)]


def test_files_are_shown_as_seen_from_the_working_directory() -> None:
    stack = innermost(dump(("/srv/shop/app.py", 12, "handler"), ("/srvs/b.py", 1, "b")), OURS, base="/srv/shop")
    assert [frame.file for frame in stack.frames] == ["app.py", "/srvs/b.py"]


def test_a_garbage_collection_is_reported() -> None:
    text = dump(("/srv/app.py", 12, "handler")).replace(":\n", ":\n  Garbage-collecting\n", 1)
    assert describe(innermost(text, OURS), 1.2).startswith(
        "worker stalled for 1.2 s: its loop stands in /srv/app.py:12 in handler while it collects garbage\n"
    )


def test_unknown_names_are_accepted() -> None:
    text = 'Stack (most recent call first):\n  File ???, line ??? in ???\n  File "/srv/a.py", line ??? in f\n'
    assert [str(frame) for frame in innermost(text, OURS).frames] == ["???:??? in ???", "/srv/a.py:??? in f"]


def test_a_thread_has_a_name_in_later_versions() -> None:
    heading = "Thread 0x00007f24957bfb80 [pool] (most recent call first):\n"
    text = heading + '  File "/srv/a.py", line 1 in f\n\n' + dump(("/srv/b.py", 2, "g"))
    assert functions(innermost(text, OURS)) == ["g"]


def test_lines_that_would_spoil_a_terminal_are_not_shown() -> None:
    assert innermost(dump(("/srv/\x1b[2J.py", 1, "f"), ("/srv/a.py", 2, "g" * 5000)), OURS).frames == ()


@given(st.text() | st.lists(st.sampled_from([*DUMPS["3.11"].splitlines(), '  File "', ", line 5", ""])).map("\n".join))
def test_any_text_is_taken(text: str) -> None:
    describe(innermost(text, OURS, PARENT, "/srv"), 1.0)


# --- the text of a log record


def test_the_record_names_the_line_and_shows_the_calls() -> None:
    frames = (Frame("app.py", "12", "handler"), Frame("app.py", "40", "application"))
    assert describe(Stack(frames), 1.24) == (
        "worker stalled for 1.2 s: its loop stands in app.py:12 in handler\n"
        "  app.py:12 in handler\n"
        "  app.py:40 in application"
    )


def test_the_log_record_has_the_reason_for_a_missing_stack() -> None:
    assert (
        describe(Stack(), 3.0, "the process is stopped") == "worker stalled for 3.0 s: no stack: the process is stopped"
    )


def test_a_loop_that_waits_for_other_threads_is_described_by_them() -> None:
    stack = Stack(leaf=Frame("/usr/lib/python3.11/selectors.py", "468", "select"), others=(Frame("a.py", "4", "f"),))
    assert describe(stack, 1.0) == (
        "worker stalled for 1.0 s: its loop stands in no code of the application, but in "
        "/usr/lib/python3.11/selectors.py:468 in select; other threads stand in\n  a.py:4 in f"
    )


def test_a_loop_that_cannot_go_on_and_stands_nowhere_may_wait_for_the_interpreter() -> None:
    assert "another thread may be in C code that holds the interpreter" in describe(Stack(), 1.0)


def test_a_loop_that_turns_again_is_not_said_to_stand() -> None:
    leaf = Frame("/usr/lib/python3.11/email/utils.py", "174", "formatdate")
    assert describe(Stack(leaf=leaf), 1.04, turns_again=True) == (
        "worker stalled for 1.0 s, and turns again: it was asked too late to show where it stood"
    )
    assert describe(Stack((Frame("app.py", "12", "handler"),)), 1.04, turns_again=True) == (
        "worker stalled for 1.0 s, and turns again: when it was asked, its loop was in app.py:12 in handler\n"
        "  app.py:12 in handler"
    )
