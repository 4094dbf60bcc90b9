"""The ledger: a reader finds whole contents only, whatever the writer was doing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hybrid.supervisor.upgrade.ledger import HALF, Ledger, LedgerError

# CPython 3.12 warns of a fork beside threads, which test runners have
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def ends() -> Iterator[tuple[Ledger, Ledger]]:
    """A writer and a reader."""
    writer = Ledger.create()
    reader = Ledger(os.dup(writer.fileno()))
    yield writer, reader
    writer.close()
    reader.close()


def test_nothing_is_read_before_anything_is_written(ends: tuple[Ledger, Ledger]) -> None:
    assert ends[1].read() == {}


def test_the_newest_content_is_read(ends: tuple[Ledger, Ledger]) -> None:
    writer, reader = ends
    for number in range(5):
        writer.write({"n": number})
        assert reader.read() == {"n": number}
    assert reader.read() is reader.read()


@pytest.mark.parametrize("damaged", [0, 4, 12, 20])
def test_a_torn_half_leaves_the_content_before(ends: tuple[Ledger, Ledger], damaged: int) -> None:
    writer, reader = ends
    writer.write({"n": 1})
    writer.write({"n": 2})
    assert reader.read() == {"n": 2}
    writer.write({"n": 3})
    os.pwrite(writer.fileno(), b"\xff", HALF + damaged)  # the third is in the second half
    assert reader.read() == {"n": 2}
    writer.write({"n": 4})
    assert reader.read() == {"n": 4}


def test_a_new_reader_finds_the_newest_of_both_halves(ends: tuple[Ledger, Ledger]) -> None:
    writer, _ = ends
    writer.write({"n": 1})
    writer.write({"n": 2})
    other = Ledger(os.dup(writer.fileno()))
    assert other.read() == {"n": 2}
    other.close()


def test_what_is_too_long_is_an_error_and_not_written(ends: tuple[Ledger, Ledger]) -> None:
    writer, reader = ends
    writer.write({"n": 1})
    with pytest.raises(LedgerError, match=f"it has {HALF + 8} bytes, and {HALF - 16} is the limit"):
        writer.write({"n": "x" * HALF})
    assert reader.read() == {"n": 1}


def test_a_file_without_a_whole_half_is_an_error(ends: tuple[Ledger, Ledger]) -> None:
    writer, reader = ends
    os.pwrite(writer.fileno(), b"\xff" * 100, 0)
    with pytest.raises(LedgerError, match="neither half is whole"):
        reader.read()
    writer.write({"n": 1})
    assert reader.read() == {"n": 1}


def test_a_ledger_is_final_once_its_writer_is_gone() -> None:
    """The kernel says so, also of a writer that was killed."""
    ledger = Ledger.create()
    read, write = os.pipe()
    writer = os.fork()
    if writer == 0:
        ledger.claim()
        os.write(write, b"1")
        signal.pause()
    assert os.read(read, 1) == b"1"
    assert not ledger.is_final
    with pytest.raises(LedgerError):
        ledger.claim()
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    assert ledger.is_final
    os.close(read)
    os.close(write)
    ledger.close()
    assert ledger.is_final


def test_a_closed_end_keeps_what_it_has_read(ends: tuple[Ledger, Ledger]) -> None:
    writer, reader = ends
    writer.write({"n": 1})
    reader.read()
    reader.close()
    reader.close()
    writer.close()
    with pytest.raises(LedgerError, match="closed"):
        writer.write({"n": 2})
    assert reader.read() == {"n": 1}
