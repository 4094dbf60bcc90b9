"""Cooperative sockets: blocking calls park the greenlet, all others work as in `socket.socket`."""

from __future__ import annotations

import array
import asyncio
import errno
import gc
import io
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from greenlet import GreenletExit
from support.greens import Green, in_home, on_greens
from support.hub import reset
from support.rows import for_each

from hybrid.workers.hub.connecting import is_numeric
from hybrid.workers.hub.sockets import Socket

BIG = bytes(range(256)) * 20_000  # more than the buffers of a socket pair take


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


# --- receiving


@on_greens
def test_recv_parks_until_data_arrives(green: Green) -> None:
    with green.pair() as (left, right):
        reading = green.spawn(lambda: [left.recv(10) for _ in range(3)])
        for data in (b"a", b"b", b"c"):
            green.turns()
            assert not reading.ready()
            right.sendall(data)
        assert reading.get() == [b"a", b"b", b"c"]


@on_greens
def test_a_negative_size_is_refused_without_waiting(green: Green) -> None:
    with green.pair() as (left, _):
        for _ in range(3):  # the first read does not park, later ones do
            with pytest.raises(ValueError, match="negative buffersize in recv"):
                left.recv(-1)
            with pytest.raises(ValueError, match="negative buffersize in recv_into"):
                left.recv_into(bytearray(1), -1)
            with pytest.raises(ValueError, match="negative buffersize in recvfrom"):
                left.recvfrom(-1)


@on_greens
def test_a_socket_that_is_made_non_blocking_does_not_wait(green: Green) -> None:
    with green.socket(kind=socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        assert (sock.gettimeout(), sock.getblocking()) == (0.0, False)


@on_greens
def test_recv_returns_nothing_at_the_end(green: Green) -> None:
    with green.pair() as (left, right):
        right.sendall(b"last")
        right.close()
        assert [left.recv(4), left.recv(4), left.recv(4)] == [b"last", b"", b""]


@on_greens
def test_full_reads_continue_without_parking_and_return_everything(green: Green) -> None:
    with green.pair() as (left, right):
        sending = green.spawn(right.sendall, BIG)
        received = bytearray()
        while len(received) < len(BIG):
            received += left.recv(1000)
        assert received == BIG
        sending.get()


@on_greens
def test_every_way_of_receiving_parks(green: Green) -> None:
    buffer = bytearray(10)
    ways: list[Callable[[Socket], Any]] = [
        lambda sock: sock.recv(10),
        lambda sock: sock.recv_into(buffer),
        lambda sock: sock.recv_into(memoryview(buffer), 5),
        lambda sock: sock.recvfrom(10)[0],
        lambda sock: sock.recvfrom_into(buffer)[0],
        lambda sock: sock.recvmsg(10)[0],
        lambda sock: sock.recvmsg_into([buffer])[0],
    ]
    for way in ways:
        with green.pair() as (left, right):
            reading = green.spawn(lambda way=way, left=left: [way(left), way(left)])
            green.turns()
            assert not reading.ready()
            right.sendall(b"one")
            green.turns()
            assert not reading.ready()
            right.sendall(b"two")
            assert reading.get() in ([b"one", b"two"], [3, 3])
            assert buffer[:3] == b"two" or way is ways[0]


@on_greens
def test_recv_into_fills_buffers_of_any_kind(green: Green) -> None:
    with green.pair() as (left, right):
        numbers = array.array("I", [0] * 4)
        right.sendall(array.array("I", [1, 2, 3, 4]).tobytes() * 2)
        assert left.recv_into(numbers) == 16
        assert list(numbers) == [1, 2, 3, 4]
        assert left.recv_into(numbers, 4) == 4
        right.close()
        assert left.recv_into(bytearray(100)) == 12
        assert left.recv_into(bytearray(100)) == 0


@on_greens
def test_peeking_leaves_the_data(green: Green) -> None:
    with green.pair() as (left, right):
        reading = green.spawn(lambda: [left.recv(3, socket.MSG_PEEK), left.recv(10, socket.MSG_PEEK), left.recv(10)])
        green.turns()
        right.sendall(b"hello")
        assert reading.get() == [b"hel", b"hello", b"hello"]


@on_greens
def test_a_single_call_may_refuse_to_wait(green: Green) -> None:
    with green.pair() as (left, right):
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                left.recv(10, socket.MSG_DONTWAIT)
            with pytest.raises(BlockingIOError):
                left.recv_into(bytearray(10), 0, socket.MSG_DONTWAIT)
            with pytest.raises(BlockingIOError):
                left.recvfrom(10, socket.MSG_DONTWAIT)
            right.sendall(b"x")
            assert left.recv(10, socket.MSG_DONTWAIT) == b"x"
        with pytest.raises(BlockingIOError):
            left.sendall(BIG, socket.MSG_DONTWAIT)
        for send in (left.send, left.sendall, lambda data, flags: left.sendmsg([data], [], flags)):
            with pytest.raises(BlockingIOError):
                send(BIG, socket.MSG_DONTWAIT)


@on_greens
def test_descriptors_are_passed_along(green: Green) -> None:
    with green.pair() as (left, right), tempfile.TemporaryFile() as file:
        file.write(b"passed")
        file.flush()
        right.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])
        data, [(_, _, fds)], _, _ = left.recvmsg(10, socket.CMSG_SPACE(4))
        [fd] = array.array("i", fds)
        assert (data, os.pread(fd, 10, 0)) == (b"x", b"passed")
        os.close(fd)


@on_greens
def test_two_readers_are_one_too_many(green: Green) -> None:
    with green.pair() as (left, right):
        first = green.spawn(left.recv, 10)
        green.turns()
        for second in (lambda: left.recv(10), lambda: left.recv_into(bytearray(10)), lambda: left.recvfrom(10)):
            with pytest.raises(RuntimeError, match="another greenlet is reading from this socket already"):
                second()
        right.sendall(b"x")
        assert first.get() == b"x"


@on_greens
def test_one_reads_while_another_writes(green: Green) -> None:
    with green.pair() as (left, right):
        writing = green.spawn(left.sendall, BIG)
        reading = green.spawn(left.recv, 10)
        green.turns()
        right.sendall(b"x")
        assert reading.get() == b"x"
        with pytest.raises(RuntimeError, match="another greenlet is writing to this socket already"):
            left.sendall(b"y" * 10_000_000)
        received = 0
        while received < len(BIG):
            received += len(right.recv(65536))
        writing.get()


@on_greens
def test_a_reset_is_an_error(green: Green) -> None:
    with green.tcp() as (ours, peer):
        reading = green.spawn(ours.recv, 10)
        green.turns()
        reset(peer)
        with pytest.raises(ConnectionResetError):
            reading.get()


# --- sending


@on_greens
def test_sendall_parks_while_the_peer_does_not_read(green: Green) -> None:
    for data in (BIG, bytearray(BIG), memoryview(BIG), array.array("I", BIG)):
        with green.pair() as (left, right):
            sending = green.spawn(left.sendall, data)
            green.turns()
            assert not sending.ready()
            reading = green.spawn(read_all, right)
            assert sending.get() is None
            left.close()
            assert reading.get() == bytes(data)


@on_greens
def test_sendall_of_nothing_does_nothing(green: Green) -> None:
    with green.pair() as (left, right):
        left.sendall(b"")
        left.sendall(bytearray())
        left.close()
        assert right.recv(10) == b""


@on_greens
def test_send_parks_only_while_there_is_no_room_at_all(green: Green) -> None:
    with green.pair() as (left, right):
        assert 0 < left.send(BIG) < len(BIG)
        sending = green.spawn(left.send, b"more")
        green.turns()
        assert not sending.ready()
        green.spawn(read_all, right)
        assert sending.get() == 4
        assert left.sendmsg([b"a", b"bc"]) == 3
        left.close()


@on_greens
def test_sending_to_a_peer_that_is_gone_is_an_error(green: Green) -> None:
    with green.pair() as (left, right):
        right.close()
        for send in (left.sendall, left.send):
            with pytest.raises(BrokenPipeError):
                send(b"x")
    with green.pair() as (left, right):
        sending = green.spawn(left.sendall, BIG)
        green.turns()
        right.close()
        with pytest.raises(ConnectionError):
            sending.get()


@on_greens
def test_only_bytes_like_objects_can_be_sent(green: Green) -> None:
    with green.pair() as (left, _):
        for send in (left.sendall, left.send):
            with pytest.raises(TypeError):
                send("text")  # type: ignore[arg-type]


@on_greens
def test_datagrams_are_sent_and_received(green: Green) -> None:
    with green.socket(kind=socket.SOCK_DGRAM) as one, green.socket(kind=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        receiving = green.spawn(lambda: [one.recvfrom(100), one.recvmsg(100)])
        green.turns()
        two.sendto(b"hello", one.getsockname())
        green.turns()
        two.sendmsg([b"he", b"llo"], [], 0, one.getsockname())
        first, second = receiving.get()
        assert first == (b"hello", two.getsockname())
        assert (second[0], second[3]) == (b"hello", two.getsockname())
        one.sendto(b"flags too", 0, two.getsockname())
        buffer = bytearray(20)
        assert two.recvfrom_into(buffer) == (9, one.getsockname())


# --- files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    return path


@pytest.mark.parametrize("form", ["file", "memory"])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (0, 5), (7, 3_000_000), (len(BIG) + 1, None)])
def test_sendfile_sends_the_requested_part(file: Path, form: str, offset: int, count: int | None) -> None:
    expected = BIG[offset:] if count is None else BIG[offset : offset + count]

    def body(green: Green) -> None:
        with green.pair() as (left, right), file.open("rb") if form == "file" else io.BytesIO(BIG) as source:
            reading = green.spawn(read_all, right)
            assert left.sendfile(source, offset, count) == len(expected)
            left.close()
            assert reading.get() == expected
            if expected:
                assert source.tell() == offset + len(expected)

    on_greens(body)("epoll")


@on_greens
def test_sendfile_refuses_a_bad_count(green: Green) -> None:
    with green.pair() as (left, _), pytest.raises(ValueError, match="positive"):
        left.sendfile(io.BytesIO(b"x"), 0, 0)


@on_greens
def test_sendfile_refuses_text_datagrams_and_sockets_that_may_not_wait(green: Green) -> None:
    with green.pair() as (left, _), tempfile.TemporaryFile("w+") as text, pytest.raises(ValueError, match="binary"):
        left.sendfile(text)
    with green.socket(kind=socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="SOCK_STREAM"):
        sock.sendfile(io.BytesIO(b"x"))
    with green.pair() as (left, _):
        left.settimeout(0)
        with pytest.raises(ValueError, match="non-blocking"):
            left.sendfile(io.BytesIO(b"x"))


@pytest.mark.parametrize("form", ["file", "memory"])
def test_the_timeout_of_sendfile_counts_for_each_wait(file: Path, form: str) -> None:
    """A peer that reads steadily takes longer than the timeout for all of it."""

    def body(green: Green) -> None:
        with green.pair() as (left, right), file.open("rb") if form == "file" else io.BytesIO(BIG) as source:
            left.settimeout(1)  # a busy machine may keep this process waiting for a part of it
            sending = green.spawn(left.sendfile, source)
            received, begun = 0, time.monotonic()
            while received < len(BIG):
                left_over = len(BIG) - received
                received += len(right.recv(len(BIG) // 40))
                if left_over > len(BIG) // 4:  # slowly at first; the rest then fits into the buffers
                    green.sleep(0.04)
            assert sending.get() == len(BIG)
            assert time.monotonic() - begun > 1

    on_greens(body)("epoll")


@pytest.mark.parametrize("form", ["file", "memory"])
def test_the_position_of_a_file_after_a_timeout_is_behind_the_sent_bytes(file: Path, form: str) -> None:
    def body(green: Green) -> None:
        with green.pair() as (left, right), file.open("rb") if form == "file" else io.BytesIO(BIG) as source:
            left.settimeout(0.02)
            with pytest.raises(TimeoutError):
                left.sendfile(source)
            position = source.tell()
            left.close()
            assert 0 < position == len(read_all(right)) < len(BIG)

    on_greens(body)("epoll")


@on_greens
def test_sendfile_reads_files_that_sendfile_2_refuses(green: Green) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"from a pipe")
    os.close(write_end)
    with green.pair() as (left, right), os.fdopen(read_end, "rb") as pipe:
        assert left.sendfile(pipe) == 11
        assert right.recv(100) == b"from a pipe"


@on_greens
def test_sendfile_raises_errors_of_the_socket(green: Green) -> None:
    with green.pair() as (left, right), tempfile.TemporaryFile() as source:
        source.write(b"x")
        source.flush()
        right.close()
        with pytest.raises(BrokenPipeError):
            left.sendfile(source)


@on_greens
def test_files_of_a_socket_read_and_write_in_every_mode(green: Green) -> None:
    with green.pair() as (left, right):
        lines = green.spawn(lambda: list(left.makefile("r", encoding="utf-8", newline="\n")))
        with right.makefile("w", encoding="utf-8", newline="\n") as text:
            text.write("één\ntwo\n")
            text.flush()
            green.turns()
            text.write("rest")
        right.shutdown(socket.SHUT_WR)
        assert lines.get() == ["één\n", "two\n", "rest"]
    with green.pair() as (left, right), left.makefile("rwb") as both, right.makefile("rb", buffering=0) as raw:
        both.write(b"binary")
        both.flush()
        assert raw.read(6) == b"binary"
        right.sendall(b"line\nmore")
        assert both.readline() == b"line\n"
        assert both.read(4) == b"more"


@on_greens
def test_a_socket_lives_as_long_as_its_files(green: Green) -> None:
    with green.pair() as (left, right):
        file = left.makefile("rb")
        left.close()
        reading = green.spawn(file.readline)
        green.turns()
        right.sendall(b"line\n")
        assert reading.get() == b"line\n"
        file.close()
        assert left.fileno() == -1
        assert right.recv(1) == b""


# --- timeouts


@on_greens
def test_a_read_times_out_and_the_next_one_works(green: Green) -> None:
    with green.pair() as (left, right):
        left.settimeout(0.005)
        assert left.gettimeout() == left.timeout == 0.005
        buffer = bytearray(4)
        for way in (lambda: left.recv(4), lambda: left.recv_into(buffer), lambda: left.recvfrom(4)):
            began = time.monotonic()
            with pytest.raises(TimeoutError, match="timed out"):
                way()
            assert time.monotonic() - began >= 0.004
        right.sendall(b"x")
        assert left.recv(4) == b"x"
        left.settimeout(None)
        reading = green.spawn(left.recv, 4)
        green.sleep(0.02)
        right.sendall(b"y")
        assert reading.get() == b"y"


@on_greens
def test_the_timeout_starts_again_with_each_read(green: Green) -> None:
    with green.pair() as (left, right):
        left.settimeout(5)

        def feed() -> None:
            for _ in range(20):
                green.sleep(0.002)
                right.sendall(b"x")

        feeding = green.spawn(feed)
        for _ in range(20):
            assert left.recv(1) == b"x"
        left.settimeout(0.005)  # earlier than the timer that is set for 5 s
        with pytest.raises(TimeoutError):
            left.recv(1)
        feeding.get()


@on_greens
def test_a_sendall_times_out_as_a_whole(green: Green) -> None:
    with green.pair() as (left, right):
        left.settimeout(0.05)

        def read_slowly() -> None:
            while right.recv(20_000):
                green.sleep(0.01)

        reading = green.spawn(read_slowly)
        with pytest.raises(TimeoutError):
            left.sendall(BIG * 2)
        reading.kill()
        left.settimeout(0.001)

        def send_on() -> None:
            while True:
                left.send(BIG)

        with pytest.raises(TimeoutError):
            send_on()


@on_greens
def test_a_timeout_of_zero_never_blocks(green: Green) -> None:
    with green.pair() as (left, right):
        left.settimeout(0)
        assert left.gettimeout() == 0
        assert not left.getblocking()
        for _ in range(2):
            for way in (lambda: left.recv(4), lambda: left.recv_into(bytearray(4)), lambda: left.recvmsg(4)):
                with pytest.raises(BlockingIOError):
                    way()
        right.sendall(b"x")
        assert left.recv(4) == b"x"
        with pytest.raises(BlockingIOError):
            left.sendall(BIG)
        with pytest.raises(BlockingIOError):
            left.send(BIG)
        left.setblocking(True)
        assert left.gettimeout() is None
        assert left.getblocking()
        left.setblocking(False)
        assert left.gettimeout() == 0


@on_greens
def test_a_bad_timeout_is_refused(green: Green) -> None:
    with green.pair() as (left, _):
        for value in (-1, float("nan")):
            with pytest.raises(ValueError, match="out of range"):
                left.settimeout(value)


@on_greens
def test_the_default_timeout_applies(green: Green) -> None:
    socket.setdefaulttimeout(0.005)
    try:
        with green.pair() as (left, _):
            assert left.gettimeout() == 0.005
            with pytest.raises(TimeoutError):
                left.recv(1)
    finally:
        socket.setdefaulttimeout(None)


# --- ending


@on_greens
def test_closing_wakes_readers_and_writers(green: Green) -> None:
    with green.pair() as (left, _):
        reading = green.spawn(left.recv, 10)
        writing = green.spawn(left.sendall, BIG)
        green.turns()
        left.close()
        for ended in (reading, writing):
            with pytest.raises(OSError, match=r".") as raised:
                ended.get(timeout=5)
            assert raised.value.errno == errno.EBADF


@on_greens
def test_a_closed_socket_refuses_everything_even_when_its_number_is_in_use_again(green: Green) -> None:
    with green.pair() as (left, right):
        right.sendall(b"never read")
        number = left.fileno()
        left.close()
        with green.pair() as (other, its_peer):
            its_peer.sendall(b"somebody else's")
            assert number in (other.fileno(), its_peer.fileno())
            calls: list[Callable[[], object]] = [
                lambda: left.recv(10),
                lambda: left.recv(10),
                lambda: left.recv_into(bytearray(10)),
                lambda: left.sendall(b"x"),
                lambda: left.sendall(bytearray(b"x")),
                lambda: left.send(b"x"),
                lambda: left.connect("/no/path"),
                lambda: left.accept(),
                lambda: left.sendfile(io.BytesIO(b"x")),
            ]
            for call in calls:
                with pytest.raises(OSError, match=r".") as raised:
                    call()
                assert raised.value.errno == errno.EBADF
            assert other.recv(100) == b"somebody else's"
    left.close()


@on_greens
def test_a_detached_descriptor_is_the_callers(green: Green) -> None:
    with green.pair() as (left, right):
        reading = green.spawn(left.recv, 10)
        green.turns()
        fd = left.detach()
        with pytest.raises(OSError, match=r"."):
            reading.get(timeout=5)
        assert left.fileno() == -1
        with pytest.raises(OSError, match=r"."):
            left.recv(1)
        with green.socket(socket.AF_UNIX, fileno=fd) as again:
            right.sendall(b"x")
            assert again.recv(1) == b"x"


@on_greens
def test_a_copy_is_an_independent_socket(green: Green) -> None:
    with green.pair() as (left, right):
        left.settimeout(5)
        with left.dup() as copy:
            assert type(copy) is Socket
            assert copy.gettimeout() == 5
            left.close()
            reading = green.spawn(copy.recv, 10)
            green.turns()
            right.sendall(b"x")
            assert reading.get() == b"x"


@on_greens
def test_shutting_down_ends_a_read(green: Green) -> None:
    with green.pair() as (left, right):
        reading = green.spawn(left.recv, 10)
        green.turns()
        left.shutdown(socket.SHUT_RD)
        assert reading.get() == b""
        left.shutdown(socket.SHUT_WR)
        assert right.recv(10) == b""


@on_greens
def test_a_killed_reader_leaves_the_socket_to_the_next(green: Green) -> None:
    with green.pair() as (left, right):
        for timeout in (None, 5):
            left.settimeout(timeout)
            reading = green.spawn(left.recv, 10)
            green.turns()
            reading.kill()
            assert isinstance(reading.value, GreenletExit)
            reading = green.spawn(left.recv, 10)
            green.turns()
            right.sendall(b"x")
            assert reading.get() == b"x"


@on_greens
def test_a_killed_writer_leaves_the_socket_to_the_next(green: Green) -> None:
    with green.pair() as (left, right):
        writing = green.spawn(left.sendall, BIG)
        green.turns()
        writing.kill()
        reading = green.spawn(read_all, right)
        left.sendall(b"end")
        left.close()
        assert reading.get().endswith(b"end")


@on_greens
def test_a_kill_and_a_close_in_one_turn_wake_once(green: Green) -> None:
    with green.pair() as (left, _):
        seen: list[str] = []

        def read() -> None:
            try:
                left.recv(10)
            except GreenletExit:
                seen.append("killed")
                green.sleep(0.02)  # must not be cut short by the wake-up of the close
                seen.append("slept")

        reading = green.spawn(read)
        green.turns()
        reading.kill(block=False)
        left.close()
        began = time.monotonic()
        reading.join()
        assert seen == ["killed", "slept"]
        assert time.monotonic() - began >= 0.019


def forget_an_armed_socket(green: Green) -> int:
    left, right = socket.socketpair()
    sock = green.socket(socket.AF_UNIX, fileno=left.detach())
    number = sock.fileno()
    with right:
        right.send(b"x")
        sock.recv(1)
        waiting = green.spawn(sock.recv, 1)
        green.turns()
        waiting.kill()
        waiting.value = None  # its traceback holds the socket
    del sock, waiting
    gc.collect()
    return number


@on_greens
def test_a_socket_that_was_forgotten_does_not_disturb_the_next(green: Green) -> None:
    with pytest.warns(ResourceWarning):
        number = forget_an_armed_socket(green)
    with green.pair() as (one, two):
        assert number in (one.fileno(), two.fileno())
        for here, there in ((one, two), (two, one)):
            reading = green.spawn(here.recv, 10)
            green.turns()
            there.sendall(b"y")
            assert reading.get(timeout=5) == b"y"


# --- connecting and accepting


@on_greens
def test_connections_are_made_and_accepted_in_greenlets(green: Green) -> None:
    with green.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            for _ in range(3):
                sock, address = listener.accept()
                with sock:
                    assert type(sock) is Socket
                    assert sock.getpeername() == address
                    sock.sendall(sock.recv(10).upper())

        serving = green.spawn(serve)
        green.turns()
        host, port = listener.getsockname()
        with green.socket() as client:
            client.connect((host, port))
            client.sendall(b"one")
            assert client.recv(10) == b"ONE"
        with green.socket() as client:
            assert client.connect_ex(("localhost", port)) == 0
            client.sendall(b"two")
            assert client.recv(10) == b"TWO"
        with green.runtime.connect(("localhost", port), timeout=5) as client:
            assert client.gettimeout() == 5
            client.sendall(b"three")
            assert client.recv(10) == b"THREE"
        serving.get()


@contextmanager
def nobody_listens() -> Iterator[tuple[str, int]]:
    """Give an address that is bound, so that no other process gets it, and not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@on_greens
def test_a_refused_connection_is_an_error(green: Green) -> None:
    with nobody_listens() as address:
        with green.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(address)
        with green.socket() as client:
            assert client.connect_ex(address) == errno.ECONNREFUSED
        for target in (address, ("localhost", address[1])):
            with pytest.raises(ConnectionRefusedError):
                green.runtime.connect(target)


@on_greens
def test_an_unanswered_connection_attempt_times_out(green: Green) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = []
        for _ in range(3):  # the queue takes one or two; the next one's SYN is dropped
            client = green.socket()
            waiting.append(client)
            client.settimeout(0.02)
            client.connect_ex(address)
        with green.socket() as client:
            client.settimeout(0.02)
            assert client.connect_ex(address) == errno.EAGAIN
        with pytest.raises(TimeoutError):
            green.runtime.connect(address, timeout=0.02)
        with green.socket() as client:
            client.settimeout(0)
            with pytest.raises(BlockingIOError):
                client.connect(address)
        with green.socket() as client:
            client.settimeout(0)
            assert client.connect_ex(address) == errno.EINPROGRESS
        for client in waiting:
            client.close()


@on_greens
def test_unix_sockets_connect_by_path(green: Green) -> None:
    with tempfile.TemporaryDirectory() as folder, green.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/s"
        with pytest.raises(FileNotFoundError):
            green.runtime.connect(path)
        listener.bind(path)
        listener.listen(0)
        with green.runtime.connect(path) as client, listener.accept()[0] as server:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
        with (
            green.runtime.connect(path.encode()),
            green.socket(socket.AF_UNIX) as refused,
            pytest.raises(BlockingIOError),  # the backlog is full: EAGAIN
        ):
            refused.connect(path)


@on_greens
def test_a_name_that_does_not_exist_is_an_error(green: Green) -> None:
    with green.socket() as client, pytest.raises(OSError, match=r"."):
        client.connect(("no-such-host.invalid", 1))
    with pytest.raises(OSError, match=r"."):
        green.runtime.connect(("no-such-host.invalid", 1))


@for_each(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%lo", True), ("", True), ("<broadcast>", True), ("localhost", False)],
)
def test_names_need_a_name_server_and_numbers_do_not(host: str, expected: bool) -> None:
    assert is_numeric(host) is expected


# --- in the loop's own greenlet


@in_home
def test_calls_that_would_block_the_loop_are_refused(green: Green) -> None:
    with green.pair() as (left, right):
        right.sendall(b"x")
        assert left.recv(1) == b"x"  # it need not wait
        calls: list[Callable[[], object]] = [
            lambda: left.recv(1),
            lambda: left.recv_into(bytearray(1)),
            lambda: left.recvfrom(1),
            lambda: left.sendall(BIG),
            lambda: left.connect(("localhost", 1)) if left.family == socket.AF_INET else green.runtime.sleep(0),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="would block the event loop"):
                call()


@in_home
def test_connecting_in_a_coroutine_is_refused_without_a_trace(green: Green) -> None:
    with pytest.raises(RuntimeError, match="would block the event loop"):
        green.runtime.connect(("localhost", 1))
    with green.socket() as sock, pytest.raises(RuntimeError, match="would block the event loop"):
        sock.connect(("localhost", 1))


def test_a_socket_outside_of_a_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no hybrid loop runs in this thread"):
        Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    assert sys.exc_info() == (None, None, None)


@on_greens
def test_a_socket_made_before_the_loop_was_hidden_keeps_it_hidden(green: Green) -> None:
    """E.g. sockets of a WSGI application that connects when it is imported."""
    seen: list[object] = []

    class Waiting:
        def run(self) -> None:
            for _ in range(2):
                seen.append((left.recv(10), asyncio._get_running_loop()))

        def parked(self, pool_worker: object) -> None:
            seen.append("parked")

    with green.pair() as (left, right):
        green.runtime.hide_loop()
        green.runtime.loop.call_soon(green.runtime.run_job, Waiting())
        for data in (b"a", b"b"):
            green.turns()
            right.sendall(data)
        green.turns()
        assert asyncio._get_running_loop() is green.runtime.loop
    assert seen == ["parked", (b"a", None), (b"b", None)]
