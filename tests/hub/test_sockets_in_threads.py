"""A cooperative socket in an application's thread: its calls block the thread, and the loop continues."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.greens import Green, on_greens

BIG = bytes(range(256)) * 20_000  # more than the buffers of a socket pair take


def in_thread(green: Green, function: Callable[[], Any]) -> Any:
    """Run `function` in a thread; the calling greenlet parks meanwhile, so the loop turns."""
    return green.runtime.await_(green.runtime.loop.run_in_executor(None, function))


@on_greens
def test_recv_waits_in_the_thread(green: Green) -> None:
    received: list[bytes | int] = []

    def receive() -> None:
        for way in (lambda: left.recv(10), lambda: left.recv_into(bytearray(10)), lambda: left.recv(10)):
            received.append(way())

    with green.pair() as (left, right):
        reading = green.spawn(in_thread, green, receive)
        for count, data in enumerate((b"one", b"two"), 1):
            green.turns()
            assert not reading.ready()
            right.sendall(data)
            while len(received) < count:
                green.sleep(0.001)
        right.close()
        reading.get()
        assert received == [b"one", 3, b""]


@on_greens
def test_sendall_waits_in_the_thread(green: Green) -> None:
    with green.pair() as (left, right):
        sending = green.spawn(in_thread, green, lambda: left.sendall(BIG))
        received = bytearray()
        while len(received) < len(BIG):
            received += right.recv(65536)
        sending.get()
        assert received == BIG


@on_greens
def test_a_timeout_counts_in_the_thread(green: Green) -> None:
    with green.pair() as (left, _):
        left.settimeout(0.01)
        with pytest.raises(TimeoutError, match="timed out"):
            in_thread(green, lambda: left.recv(1))


@on_greens
def test_a_greenlet_and_a_thread_take_turns_with_one_socket(green: Green) -> None:
    with green.pair() as (left, right):
        for number in range(3):
            reading = green.spawn(left.recv, 10)
            green.turns()
            right.sendall(b"greenlet %d" % number)
            assert reading.get() == b"greenlet %d" % number
            reading = green.spawn(in_thread, green, lambda: left.recv(10))
            green.turns()
            right.sendall(b"thread %d" % number)
            assert reading.get() == b"thread %d" % number


@on_greens
def test_a_close_in_the_thread_reaches_the_peer_and_the_poller(green: Green) -> None:
    with green.pair() as (left, right):
        reading = green.spawn(left.recv, 10)
        green.turns()
        right.sendall(b"armed")  # the descriptor is registered with the poller from now on
        assert reading.get() == b"armed"
        in_thread(green, left.close)
        assert left.fileno() == -1
        with pytest.raises(OSError, match=r"closed|Bad file descriptor"):
            left.recv(1)
        assert right.recv(1) == b""


@on_greens
def test_a_close_in_the_thread_wakes_the_greenlet_that_reads(green: Green) -> None:
    with green.pair() as (left, _):
        reading = green.spawn(left.recv, 1)
        green.turns()
        in_thread(green, left.close)
        with pytest.raises(OSError, match=r"closed|Bad file descriptor"):
            reading.get()


@on_greens
def test_a_descriptor_detached_in_a_thread_is_no_longer_polled(green: Green) -> None:
    with green.pair() as (left, right):
        reading = green.spawn(left.recv, 10)
        green.turns()
        right.sendall(b"armed")
        assert reading.get() == b"armed"
        fd = in_thread(green, left.detach)
        os.close(fd)
        with green.pair() as (new, peer):  # the number is reused
            peer.sendall(b"new")
            assert new.recv(10) == b"new"


@on_greens
def test_a_connection_can_be_made_in_the_thread(green: Green) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, green.socket() as client:

        def connect() -> bytes:
            client.connect(("localhost", listener.getsockname()[1]))
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
            return client.recv(10)

        assert in_thread(green, connect) == b"hello"
