"""Lines on descriptors of every kind: whole, or not at all; and never a wait."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.workers.contract.lines import LONGEST, LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def writer(fd: int) -> LineWriter:
    return LineWriter(fd, select.poll)


def test_an_empty_pipe_takes_the_longest_line_in_one_write(pipe: tuple[int, int]) -> None:
    line = b"x" * (LONGEST - 1) + b"\n"
    assert writer(pipe[1]).takes(len(line))
    assert writer(pipe[1]).write(line)
    assert os.read(pipe[0], 1 << 20) == line


def test_a_line_that_a_pipe_says_it_takes_fits_however_the_pages_are_filled(pipe: tuple[int, int]) -> None:
    """The worst case: each write needs a page of its own."""
    os.set_blocking(pipe[1], False)
    one = writer(pipe[1])
    while one.takes(LONGEST):
        assert os.write(pipe[1], b"y" * 2049) == 2049
    size = next(size for size in range(LONGEST, 0, -1) if one.takes(size))
    assert select.PIPE_BUF <= size < LONGEST
    assert os.write(pipe[1], b"x" * size) == size


def test_a_full_pipe_takes_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    while writer(pipe[1]).write(b"x" * 4095 + b"\n"):
        pass
    os.set_blocking(pipe[1], True)
    assert not writer(pipe[1]).write(b"lost\n")


def test_lines_are_appended_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    one = writer(fd)
    assert one.takes(LONGEST)
    assert one.write(b"a\n")
    assert one.write(b"b" * 100_000 + b"\n")
    os.close(fd)
    assert path.read_bytes() == b"a\n" + b"b" * 100_000 + b"\n"


def test_a_line_that_a_full_disk_has_cut_is_ended_before_the_next(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: write(2) takes a part, and then fails with EFBIG."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        one = writer(fd)
        assert one.write(b"1234567\n")
        assert not one.write(b"cut here\n")
        assert not one.write(b"lost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert one.why_lost == "they could not be written (is the disk full?)"
    assert one.write(b"again\n")
    os.close(fd)
    assert path.read_bytes() == b"1234567\ncu\nagain\n"


def test_a_socket_takes_a_line_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = b"x" * (LONGEST - 1) + b"\n"
        assert writer(ours.fileno()).write(line)
        assert theirs.recv(1 << 20) == line


def test_a_terminal_that_is_not_read_takes_a_part_and_never_blocks() -> None:
    master, slave = os.openpty()
    try:
        assert not writer(slave).write(b"x" * 1_000_000)
        assert fcntl.fcntl(slave, fcntl.F_GETFL) & os.O_NONBLOCK == 0
    finally:
        os.close(master)
        os.close(slave)


def read_line(fd: int) -> bytes:
    """Read until the end of a line: a terminal may pass on single bytes."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(fd, 100)
    return line


def test_a_terminal_that_may_not_be_opened_again_takes_single_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> int:
        raise PermissionError

    master, slave = os.openpty()
    try:
        with monkeypatch.context() as other:
            other.setattr(os, "open", refuses)
            one = writer(slave)
        assert one.write(b"a line\n")
        assert read_line(master) == b"a line\r\n"
        assert not one.write(b"x" * 1_000_000)
    finally:
        os.close(master)
        os.close(slave)


def test_a_closed_descriptor_takes_nothing(pipe: tuple[int, int]) -> None:
    fd = os.dup(pipe[1])
    one = writer(fd)
    os.close(fd)
    assert not one.write(b"x\n")
