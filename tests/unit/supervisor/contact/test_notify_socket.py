"""What systemd is told, heard at a real socket."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.leaks import descriptors
from support.manager import Manager, managing
from support.records import logged

from hybrid.supervisor.contact.notify_socket import NotifySocket

PID = 4711


def is_told(manager: Manager, *, handed_over: bool = False, **variables: str) -> NotifySocket:
    """A notify socket that finds the manager in its environment."""
    environ = {"NOTIFY_SOCKET": manager.address, **variables}
    return NotifySocket.from_environment(environ, PID, handed_over=handed_over)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with managing(str(tmp_path / "notify")) as manager:
        yield manager


def test_each_word_is_one_datagram(manager: Manager) -> None:
    notify_socket = is_told(manager, WATCHDOG_USEC="2000000")
    notify_socket.ready()
    notify_socket.status("serving with 2 workers")
    notify_socket.watchdog()
    notify_socket.main_pid(PID)
    notify_socket.stopping()
    assert manager.hears() == ["READY=1", "STATUS=serving with 2 workers", "WATCHDOG=1", f"MAINPID={PID}", "STOPPING=1"]
    notify_socket.close()


def test_a_reload_carries_the_monotonic_time_in_microseconds(manager: Manager) -> None:
    notify_socket = is_told(manager)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify_socket.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    [text] = manager.hears()
    first, _, stamp = text.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(stamp) <= after
    notify_socket.close()


def test_a_name_of_the_abstract_namespace_is_understood() -> None:
    manager = Manager(f"@hybrid-test-{os.getpid()}-{os.urandom(4).hex()}")
    notify_socket = is_told(manager)
    notify_socket.ready()
    assert manager.hears() == ["READY=1"]
    notify_socket.close()
    manager.goes_away()


def test_the_variables_are_taken_out_of_the_environment_and_kept_for_a_successor(manager: Manager) -> None:
    ours = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(PID)}
    environ = {**ours, "PATH": "/bin"}
    notify_socket = NotifySocket.from_environment(environ, PID)
    assert environ == {"PATH": "/bin"}
    assert notify_socket.environment == ours
    notify_socket.close()


def _says_everything(notify_socket: NotifySocket) -> None:
    notify_socket.status("x")
    notify_socket.ready()
    notify_socket.reloading()
    notify_socket.watchdog()
    notify_socket.stopping()
    notify_socket.main_pid(PID + 1)
    notify_socket.retry()


def test_without_a_manager_nothing_is_said_logged_or_opened() -> None:
    before = descriptors()
    with logged() as lines:
        notify_socket = NotifySocket.from_environment({"WATCHDOG_USEC": "2000000"}, PID)
        _says_everything(notify_socket)
    assert lines == []
    assert notify_socket.watchdog_interval is None
    assert not notify_socket.has_unsent
    assert descriptors() == before


@pytest.mark.parametrize("address", ["vsock:2:1234", "run/notify"])
def test_an_unsupported_address_is_logged_in_one_line(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
    with logged() as lines:
        notify_socket = NotifySocket.from_environment(environ, PID)
        _says_everything(notify_socket)
    assert len(lines) == 1
    assert lines[0].startswith(f"WARNING NOTIFY_SOCKET is {address}: not notifying")
    assert notify_socket.watchdog_interval is None
    assert environ == {}


def test_a_status_is_sent_only_when_it_has_changed(manager: Manager) -> None:
    notify_socket = is_told(manager)
    for text in ("a", "a", "b", "b", "a"):
        notify_socket.status(text)
    assert manager.hears() == ["STATUS=a", "STATUS=b", "STATUS=a"]
    notify_socket.close()


def test_a_status_cannot_smuggle_in_another_variable(manager: Manager) -> None:
    notify_socket = is_told(manager)
    notify_socket.status("a\nMAINPID=1\r\n b")
    assert manager.hears() == ["STATUS=a MAINPID=1 b"]
    notify_socket.close()


def test_a_status_is_never_longer_than_systemd_reads_and_always_utf_8(manager: Manager) -> None:
    notify_socket = is_told(manager)
    notify_socket.status("\N{GRINNING FACE}" * 5000)
    notify_socket.status("\udcff" * 5000)
    assert [len(text.encode()) < 4096 for text in manager.hears()] == [True, True]
    notify_socket.close()


# --- watchdog


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "1"}, 0.01),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": str(2**64 - 1)}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(PID)}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time_if_it_watches_this_process(
    manager: Manager, variables: dict[str, str], interval: float | None
) -> None:
    notify_socket = is_told(manager, **variables)
    assert notify_socket.watchdog_interval == interval
    notify_socket.watchdog()
    assert manager.hears() == ([] if interval is None else ["WATCHDOG=1"])
    notify_socket.close()


# --- hand-over to another process


def test_nothing_is_sent_after_naming_another_main_process(manager: Manager) -> None:
    notify_socket = is_told(manager, WATCHDOG_USEC="2000000")
    notify_socket.main_pid(PID + 1)
    _says_everything(notify_socket)
    assert manager.hears() == [f"MAINPID={PID + 1}"]
    assert notify_socket.watchdog_interval is None
    notify_socket.close()


def test_a_successor_is_silent_until_it_was_named(manager: Manager) -> None:
    """The main process is the only one that systemd listens to; it complains of others in its journal."""
    notify_socket = is_told(manager, handed_over=True)
    notify_socket.status("booting")
    notify_socket.status("serving with 2 workers")
    notify_socket.ready()
    assert manager.hears() == []
    assert not notify_socket.has_unsent
    notify_socket.take_over()
    assert manager.hears() == ["STATUS=serving with 2 workers", "READY=1"]
    notify_socket.status("serving with 3 workers")
    assert manager.hears() == ["STATUS=serving with 3 workers"]
    notify_socket.close()


def test_a_successor_feeds_the_watchdog_of_the_process_before_it(manager: Manager) -> None:
    notify_socket = is_told(manager, handed_over=True, WATCHDOG_USEC="2000000", WATCHDOG_PID="1")
    assert notify_socket.watchdog_interval == 1.0
    notify_socket.take_over()
    notify_socket.watchdog()
    assert manager.hears() == ["WATCHDOG=1"]
    notify_socket.close()


# --- failures


def test_a_manager_that_is_gone_costs_one_warning(manager: Manager) -> None:
    notify_socket = is_told(manager, WATCHDOG_USEC="2000000")
    manager.goes_away()
    with logged() as lines:
        _says_everything(notify_socket)
    assert lines == [
        "WARNING cannot reach the service manager at NOTIFY_SOCKET: no such file or directory; "
        "it may not know our state"
    ]
    assert not notify_socket.has_unsent
    notify_socket.close()


def test_a_restarted_manager_at_the_same_address_is_notified_again(manager: Manager) -> None:
    notify_socket = is_told(manager)
    manager.goes_away()
    with logged():
        notify_socket.ready()
    successor = Manager(manager.address)
    notify_socket.status("serving")
    assert successor.hears() == ["STATUS=serving"]
    notify_socket.close()
    successor.goes_away()


def test_an_address_too_long_for_the_kernel_costs_one_warning() -> None:
    with logged() as lines:
        notify_socket = NotifySocket.from_environment({"NOTIFY_SOCKET": "/" + "x" * 200}, PID)
        _says_everything(notify_socket)
    assert len(lines) == 1
    notify_socket.close()


def _fill_the_queue(manager: Manager) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                flood.sendto(b"X=1", manager.address)


def test_messages_for_a_busy_manager_are_kept_in_order(manager: Manager) -> None:
    """A lost READY=1 would let the start of a unit time out."""
    notify_socket = is_told(manager, WATCHDOG_USEC="2000000")
    _fill_the_queue(manager)
    with logged() as lines:
        for _ in range(100):
            notify_socket.watchdog()
            notify_socket.reloading()
            notify_socket.ready()
        notify_socket.status("a")
        notify_socket.status("b")
    assert notify_socket.has_unsent
    assert lines == [
        "WARNING cannot reach the service manager at NOTIFY_SOCKET: resource temporarily unavailable; "
        "it may not know our state"
    ]
    assert set(manager.hears()) == {"X=1"}
    notify_socket.retry()
    heard = [text.partition("\n")[0] for text in manager.hears()]
    assert heard == ["WATCHDOG=1", "RELOADING=1", "READY=1", "STATUS=b"]
    assert not notify_socket.has_unsent
    notify_socket.close()


def test_the_last_word_is_kept_too(manager: Manager) -> None:
    notify_socket = is_told(manager)
    _fill_the_queue(manager)
    with logged():
        notify_socket.main_pid(PID + 1)
    manager.hears()
    notify_socket.ready()
    notify_socket.retry()
    assert manager.hears() == [f"MAINPID={PID + 1}"]
    notify_socket.close()


@contextmanager
def _no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_descriptors_run_out_the_watchdog_is_fed_all_the_same(manager: Manager) -> None:
    notify_socket = is_told(manager, WATCHDOG_USEC="2000000")
    with _no_descriptor_left():
        notify_socket.watchdog()
    assert manager.hears() == ["WATCHDOG=1"]
    notify_socket.close()


def test_where_no_descriptor_can_be_had_at_the_start_the_word_is_kept(manager: Manager) -> None:
    with logged() as lines, _no_descriptor_left():
        notify_socket = is_told(manager)
        notify_socket.ready()
    assert len(lines) == 1
    assert "too many open files" in lines[0]
    notify_socket.retry()
    assert manager.hears() == ["READY=1"]
    notify_socket.close()


def test_a_closed_one_is_silent_and_keeps_no_descriptor(manager: Manager) -> None:
    before = descriptors()
    notify_socket = is_told(manager, WATCHDOG_USEC="2000000")
    notify_socket.close()
    notify_socket.close()
    assert descriptors() == before
    _says_everything(notify_socket)
    assert manager.hears() == []
