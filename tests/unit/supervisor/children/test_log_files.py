"""The files of the log: opened once for each path, opened again, and handed out to children."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shell import settings

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.children.log_files import LogFileError, LogFiles, Outputs
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.workers.contract import reopening
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Ping, Reopened


@pytest.fixture
def files() -> Iterator[LogFiles]:
    made = LogFiles()
    yield made
    made.close()


class Child:
    """A handle, and the child's end of its channel."""

    def __init__(self) -> None:
        self.children = Children(1)
        ours, self.channel = Channel.pair()
        self.handle = ChildHandle(0, 1, ours, self.children.take_place(), DumpFile(), 1)

    def close(self) -> None:
        self.handle.channel.close()
        self.handle.dump_file.close()
        self.channel.close()


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def test_without_options_lines_go_to_the_standard_streams(files: LogFiles) -> None:
    assert files.open(settings()) == Outputs(2, 1)
    assert files.is_empty


def test_captured_workers_get_duplicates_of_the_standard_streams(files: LogFiles) -> None:
    found = files.open(settings(log_capture=True))
    assert min(found.log_fd, found.access_fd) > 2
    assert (inode(found.log_fd), inode(found.access_fd)) == (inode(2), inode(1))
    assert files.open(settings(log_capture=True)) == found
    assert files.open(settings(log_capture=True, command=("true",))) == Outputs(2, 1)


def test_services_with_the_same_path_share_a_file(files: LogFiles, tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = files.open(settings(log_file=path, access_log_file=path))
    assert first.log_fd == first.access_fd
    assert files.open(settings(log_file=path)).log_fd == first.log_fd


def test_a_file_is_opened_again_under_the_same_number(files: LogFiles, tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = files.open(settings(log_file=path)).log_fd
    path.rename(tmp_path / "log.1")
    assert files.reopen() == ([path], [])
    os.write(fd, b"new\n")
    assert path.read_bytes() == b"new\n"
    assert not os.get_inheritable(fd)
    assert files.edition == 1


def test_a_file_that_cannot_be_opened_again_stays(files: LogFiles, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    fd = files.open(settings(log_file=path)).log_fd
    path.parent.rename(tmp_path / "moved")
    done, failures = files.reopen()
    assert done == []
    assert failures[0].startswith(f"cannot write to {path}: no such file or directory; lines still go to")
    os.write(fd, b"kept\n")
    assert (tmp_path / "moved" / "log").read_bytes() == b"kept\n"


def test_what_is_no_regular_file_is_not_opened_again(files: LogFiles) -> None:
    files.open(settings(log_file=Path(os.devnull)))
    assert files.reopen() == ([], [])


def test_a_pipe_without_a_reader_is_an_error_and_no_wait(files: LogFiles, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogFileError, match=r"cannot write to .*/pipe: no such device or address"):
        files.open(settings(log_file=tmp_path / "pipe"))


def test_files_of_services_that_are_gone_are_closed(files: LogFiles, tmp_path: Path) -> None:
    web = settings(log_file=tmp_path / "log", access_log_file=tmp_path / "web")
    chat = settings(log_file=tmp_path / "log", access_log_file=tmp_path / "chat")
    kept, gone = files.open(web), files.open(chat)
    files.keep([web])
    os.fstat(kept.access_fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(gone.access_fd)


def test_a_child_keeps_only_what_its_service_writes_to(files: LogFiles, tmp_path: Path) -> None:
    shop = files.open(settings(log_file=tmp_path / "log", access_log_file=tmp_path / "shop"))
    chat = files.open(settings(log_file=tmp_path / "log", access_log_file=tmp_path / "chat"))
    captured = files.open(settings(log_capture=True))
    files.close_in_child(shop)
    assert inode(shop.log_fd) == inode(chat.log_fd) == (tmp_path / "log").stat().st_ino
    assert inode(shop.access_fd) == (tmp_path / "shop").stat().st_ino
    for fd in (chat.access_fd, captured.log_fd, captured.access_fd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_child_gets_the_new_file_in_the_place_of_the_old_one(files: LogFiles, child: Child, tmp_path: Path) -> None:
    path = tmp_path / "log"
    outputs = files.open(settings(log_file=path))
    old = os.dup(outputs.log_fd)  # the child's
    path.rename(tmp_path / "log.1")
    files.reopen()
    assert files.hand_out([child.handle], outputs)
    taken = child.channel.take_over_nowait()
    assert taken is not None
    message, descriptors = taken
    assert message == Reopened((outputs.log_fd,))
    reopening.replace((old,), descriptors)
    assert inode(old) == path.stat().st_ino
    os.close(old)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])
    assert files.hand_out([child.handle], outputs)
    assert child.channel.take_over_nowait() is None  # once


def test_a_child_whose_channel_is_full_gets_it_later(files: LogFiles, child: Child, tmp_path: Path) -> None:
    outputs = files.open(settings(log_file=tmp_path / "log"))
    files.reopen()
    while child.handle.channel.send_nowait(Ping()):
        pass
    assert not files.hand_out([child.handle], outputs)
    while child.channel.receive_nowait() is not None:
        pass
    child.handle.channel.flush()
    while child.channel.receive_nowait() is not None:
        pass
    assert files.hand_out([child.handle], outputs)
    assert child.channel.receive_nowait() == Reopened((outputs.log_fd,))


def test_a_child_that_is_gone_is_no_error(files: LogFiles, child: Child, tmp_path: Path) -> None:
    outputs = files.open(settings(log_file=tmp_path / "log"))
    files.reopen()
    child.channel.close()
    assert files.hand_out([child.handle], outputs)


def test_a_number_that_the_application_uses_for_something_else_is_spared(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    new = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    before = inode(theirs)
    reopening.replace((theirs,), (new,))
    assert inode(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_without_all_descriptors_nothing_is_replaced(tmp_path: Path) -> None:
    old = os.open(tmp_path / "old", os.O_WRONLY | os.O_CREAT)
    new = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT)
    reopening.replace((old, old), (new,))
    assert inode(old) == (tmp_path / "old").stat().st_ino
    os.close(old)
