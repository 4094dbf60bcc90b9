"""Listening sockets in the kernel: groups, UNIX files, inherited descriptors."""

from __future__ import annotations

import dataclasses
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.leaks import Owned

from hybrid.supervisor.listeners.addresses import UnixBind
from hybrid.supervisor.listeners.shared import UnixFile, UnixSocket
from hybrid.supervisor.listeners.sockets import (
    BindError,
    FdBind,
    Listeners,
    Mended,
    Waiting,
    open_listeners,
    parse_bind,
    systemd_binds,
)
from hybrid.supervisor.listeners.steering import SteeringError, release
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.worker_spec import Listener, ListenerKind

Open = Callable[..., Listeners]
Inherit = Callable[[socket.socket], FdBind]


@pytest.fixture
def inherited() -> Iterator[Callable[[socket.socket], FdBind]]:
    """Pass a socket on as a descriptor, as a parent process does."""
    owned = Owned()

    def give(sock: socket.socket) -> FdBind:
        fd = sock.detach()
        owned.add(fd)
        return FdBind(fd)

    yield give
    owned.close()  # but not what its new owner has closed


@pytest.fixture
def opened(inherited: Inherit) -> Iterator[Open]:
    """Open listeners for addresses, and close them at the end, before the inherited sockets."""
    made: list[Listeners] = []

    def begin(*binds: str, workers: int = 2, **fields: object) -> Listeners:
        given = {"balance": "off", **fields}  # sockets of addresses only
        settings = Settings(binds=tuple(map(parse_bind, binds)), workers=workers, **given)  # type: ignore[arg-type]
        made.append(open_listeners(settings))
        return made[-1]

    yield begin
    for listeners in made:
        listeners.close()


def port_of(listeners: Listeners) -> int:
    return int(listeners.all()[0].sock.getsockname()[1])


def options(listener: Listener, *names: str) -> list[int]:
    return [listener.sock.getsockopt(socket.SOL_SOCKET, getattr(socket, name)) for name in names]


# --- groups


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "udp://127.0.0.1:0", "udp://[::1]:0"])
def test_an_address_has_one_socket_per_slot_on_one_port(opened: Open, bind: str) -> None:
    listeners = opened(bind, workers=3)
    assert [listener.slot for listener in listeners.all()] == [0, 1, 2]
    assert len({listener.sock.getsockname() for listener in listeners.all()}) == 1
    assert listeners.addresses == (bind.removesuffix("0") + str(port_of(listeners)),)
    assert not any(listener.sock.getblocking() for listener in listeners.all())


def test_streams_listen_and_datagrams_do_not(opened: Open) -> None:
    stream, datagram = opened("127.0.0.1:0", "udp://127.0.0.1:0", workers=1).all()
    assert (stream.kind, options(stream, "SO_ACCEPTCONN")) == (ListenerKind.STREAM, [1])
    assert (datagram.kind, options(datagram, "SO_ACCEPTCONN")) == (ListenerKind.DATAGRAM, [0])


def test_a_host_name_becomes_the_address_it_stands_for(opened: Open) -> None:
    assert opened("localhost:0").addresses[0].startswith(("127.0.0.1:", "[::1]:"))


@pytest.mark.parametrize("scheme", ["", "udp://"])
def test_all_interfaces_are_those_of_both_families_for_every_slot(opened: Open, scheme: str) -> None:
    for listener in opened(f"{scheme}[::]:0", workers=3).all():
        assert listener.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


@pytest.mark.parametrize("scheme", ["", "udp://"])
def test_an_address_that_is_ipv6_only_leaves_ipv4_alone(opened: Open, scheme: str) -> None:
    bind = dataclasses.replace(parse_bind(f"{scheme}[::]:0"), ipv6_only=True)  # type: ignore[call-arg]
    with open_listeners(Settings(binds=(bind,), workers=2, balance="off")) as listeners:
        assert [one.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) for one in listeners.all()] == [1, 1]
        opened(f"{scheme}0.0.0.0:{port_of(listeners)}")


@pytest.mark.parametrize("scheme", ["", "udp://"])
@pytest.mark.parametrize(("first", "second"), [("0.0.0.0", "[::]"), ("127.0.0.1", "[::]"), ("[::]", "127.0.0.1")])
def test_a_port_is_in_use_if_it_is_in_one_of_the_families(opened: Open, scheme: str, first: str, second: str) -> None:
    port = port_of(opened(f"{scheme}{first}:0"))
    with pytest.raises(BindError, match="address already in use by this process"):
        opened(f"{scheme}{second}:{port}")


@pytest.mark.parametrize("bind", ["127.0.0.1:{}", "udp://127.0.0.1:{}"])
def test_two_services_of_one_user_never_share_a_port(opened: Open, bind: str) -> None:
    port = port_of(opened(bind.format(0)))
    with pytest.raises(BindError, match="address already in use by this process, which has bound it already"):
        opened(bind.format(port))


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "udp://127.0.0.1:0"])
def test_port_0_never_gives_a_port_that_has_a_group(opened: Open, bind: str) -> None:
    ports = [port_of(opened(bind)) for _ in range(50)]
    assert len(set(ports)) == len(ports)


def test_a_port_is_free_again_at_once_though_its_connections_are_in_time_wait(opened: Open) -> None:
    first = opened("127.0.0.1:0", workers=1)
    port = port_of(first)
    with socket.create_connection(("127.0.0.1", port)) as client:
        first.all()[0].sock.setblocking(True)
        connection, _ = first.all()[0].sock.accept()
        connection.close()
        assert client.recv(1) == b""
    first.close()
    assert port_of(opened(f"127.0.0.1:{port}")) == port


def test_open_sockets_are_closed_when_a_later_address_is_refused(opened: Open, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BindError):
            opened(f"unix:{tmp_path}/a.sock", "127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bind", "says"),
    [
        ("192.0.2.1:0", "this machine has no such address"),
        ("no-such-host.invalid:0", "cannot be resolved"),
        ("udp://192.0.2.1:0", "this machine has no such address"),
    ],
)
def test_an_address_that_cannot_be_bound_is_explained(opened: Open, bind: str, says: str) -> None:
    with pytest.raises(BindError, match=says):
        opened(bind)


def test_an_address_given_twice_is_said_so(opened: Open) -> None:
    with pytest.raises(BindError, match="given twice"):
        opened("127.0.0.1:9000", "127.0.0.1:9000")


def test_port_0_may_be_given_twice(opened: Open) -> None:
    assert len(set(opened("127.0.0.1:0", "127.0.0.1:0").addresses)) == 2


def test_listeners_are_closed_by_with(opened: Open) -> None:
    with opened("127.0.0.1:0") as listeners:
        sock = listeners.all()[0].sock
    assert sock.fileno() == -1


# --- steering


def connect(port: int, times: int, host: str = "127.0.0.1") -> list[socket.socket]:
    return [socket.create_connection((host, port)) for _ in range(times)]


def queued(listeners: Listeners) -> dict[int | None, int]:
    """Take everything that waits; slot -> how much."""
    counts: dict[int | None, int] = {}
    for listener in listeners.all():
        counts[listener.slot] = 0
        try:
            while True:
                if listener.kind is ListenerKind.STREAM:
                    listener.sock.accept()[0].close()
                else:
                    listener.sock.recv(100)
                counts[listener.slot] += 1
        except BlockingIOError:
            pass
    return counts


def spread(listeners: Listeners, times: int = 60) -> dict[int | None, int]:
    family = listeners.all()[0].sock.family
    clients = connect(port_of(listeners), times, "::1" if family == socket.AF_INET6 else "127.0.0.1")
    counts = queued(listeners)
    for client in clients:
        client.close()
    return counts


@pytest.mark.parametrize("slots", [(2,), (0, 2), (1, 3)])
def test_connections_go_only_where_they_are_steered_to(opened: Open, slots: tuple[int, ...]) -> None:
    listeners = opened("127.0.0.1:0", workers=4)
    listeners.steer(slots)
    counts = spread(listeners)
    assert {slot for slot, count in counts.items() if count} == set(slots)
    assert sum(counts.values()) == 60


def test_steering_may_change_at_any_time_and_end(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", workers=2)
    for slots in ((0,), (1,), (1,)):
        listeners.steer(slots)
        assert spread(listeners)[slots[0]] == 60
    listeners.steer((0, 1))
    assert all(spread(listeners).values())


def test_steering_spreads_evenly(opened: Open) -> None:
    """Of 600 draws from three, 150 for one are 4.3 standard deviations away."""
    listeners = opened("127.0.0.1:0", workers=4)
    listeners.steer((0, 1, 3))
    counts = spread(listeners, 600)
    assert counts.pop(2) == 0
    assert all(count > 150 for count in counts.values())


@pytest.mark.parametrize("bind", ["udp://127.0.0.1:0", "udp://[::1]:0"])
def test_datagrams_of_one_sender_go_to_one_slot_and_senders_spread(opened: Open, bind: str) -> None:
    listeners = opened(bind, workers=3)
    listeners.steer((0, 2))
    target = listeners.all()[0].sock.getsockname()
    seen = set()
    for _ in range(40):
        with socket.socket(listeners.all()[0].sock.family, socket.SOCK_DGRAM) as sender:
            for _ in range(3):
                sender.sendto(b"x", target)
        counts = queued(listeners)
        assert sorted(counts.values()) == [0, 0, 3]
        seen |= {slot for slot, count in counts.items() if count}
    assert seen == {0, 2}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_of_both_families_are_steered(opened: Open, host: str) -> None:
    listeners = opened("[::]:0", workers=3)
    listeners.steer((1,))
    clients = connect(port_of(listeners), 20, host)
    assert queued(listeners) == {0: 0, 1: 20, 2: 0}
    for client in clients:
        client.close()


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_datagrams_of_both_families_are_steered_by_their_sender(opened: Open, family: int, host: str) -> None:
    listeners = opened("udp://[::]:0", workers=3)
    listeners.steer((0, 2))
    seen = set()
    for _ in range(40):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            for _ in range(3):
                sender.sendto(b"x", (host, port_of(listeners)))
        counts = queued(listeners)
        assert sorted(counts.values()) == [0, 0, 3]
        seen |= {slot for slot, count in counts.items() if count}
    assert seen == {0, 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_slot_gets_nothing_until_it_is_steered_to(opened: Open, workers: int) -> None:
    listeners = opened("127.0.0.1:0", "unix:@hybrid-test-grow", workers=workers)
    listeners.grow(workers + 1)
    counts = spread(listeners)
    assert counts[workers] == 0
    assert sum(counts.values()) == 60
    listeners.steer(tuple(range(workers + 1)))
    assert all(count for slot, count in spread(listeners, 100).items() if slot is not None)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_slot_gets_no_datagrams_either(opened: Open, workers: int) -> None:
    listeners = opened("udp://127.0.0.1:0", workers=workers)
    listeners.grow(workers + 1)
    target = listeners.all()[0].sock.getsockname()
    for _ in range(40):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", target)
    assert queued(listeners)[workers] == 0


def test_releasing_a_group_that_has_no_program_is_fine(opened: Open) -> None:
    release(opened("127.0.0.1:0").all()[0].sock)


def test_a_socket_without_a_group_has_nothing_to_release() -> None:
    with socket.socket() as alone, pytest.raises(SteeringError, match="Invalid argument"):
        release(alone)


def test_slots_without_a_socket_yet_are_passed_over(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", workers=2)
    listeners.steer((1, 2))
    assert spread(listeners)[1] == 60


def test_growing_to_the_present_size_changes_nothing(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", workers=2)
    before = listeners.all()
    listeners.grow(1)
    assert listeners.all() == before


def test_a_steering_error_is_raised_after_all_addresses_were_tried(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", "127.0.0.1:0", workers=2)
    listeners.all()[0].sock.close()
    with pytest.raises(SteeringError, match="refuses to steer"):
        listeners.steer((1,))
    clients = connect(listeners.all()[2].sock.getsockname()[1], 10)
    assert queued_of(listeners.all()[3]) == 10
    for client in clients:
        client.close()


def queued_of(listener: Listener) -> int:
    count = 0
    while True:
        try:
            listener.sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


# --- UNIX


def test_a_unix_socket_is_one_for_all_slots(opened: Open, tmp_path: Path) -> None:
    listeners = opened(f"unix:{tmp_path}/a.sock", workers=4)
    (listener,) = listeners.all()
    assert (listener.slot, listener.kind, listener.address) == (None, ListenerKind.STREAM, f"unix:{tmp_path}/a.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/a.sock")


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_a_unix_socket_has_its_mode_whatever_the_umask(opened: Open, tmp_path: Path, mode: int) -> None:
    old = os.umask(0o022)
    try:
        opened(f"unix:{tmp_path}/a.sock", unix_mode=mode)
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == mode
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(old)


def test_the_file_is_removed_at_the_end(opened: Open, tmp_path: Path) -> None:
    opened(f"unix:{tmp_path}/a.sock").close()
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_another_socket_is_not_removed(opened: Open, tmp_path: Path) -> None:
    listeners = opened(f"unix:{tmp_path}/a.sock")
    (tmp_path / "a.sock").unlink()
    (tmp_path / "filler").touch()  # or the new file may get the inode number of the old one
    (tmp_path / "a.sock").touch()
    listeners.close()
    assert (tmp_path / "a.sock").exists()


def test_a_stale_file_is_replaced(opened: Open, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/a.sock")
    opened(f"unix:{tmp_path}/a.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/a.sock")


def test_a_living_listener_keeps_its_file(opened: Open, tmp_path: Path) -> None:
    opened(f"unix:{tmp_path}/a.sock")
    with pytest.raises(BindError, match="address already in use by this process, which has bound it already"):
        opened(f"unix:{tmp_path}/a.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/a.sock")


def test_a_listener_with_a_full_queue_counts_as_alive(opened: Open, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(f"{tmp_path}/a.sock")
        busy.listen(0)
        client.connect(f"{tmp_path}/a.sock")
        with pytest.raises(BindError, match="already in use"):
            opened(f"unix:{tmp_path}/a.sock")


def test_a_file_that_is_no_socket_is_left_alone(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "a.sock").write_text("precious")
    with pytest.raises(BindError, match="exists and is no socket"):
        opened(f"unix:{tmp_path}/a.sock")
    assert (tmp_path / "a.sock").read_text() == "precious"


def test_a_directory_that_is_missing_is_said_so(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(BindError, match="its directory does not exist"):
        opened(f"unix:{tmp_path}/missing/a.sock")


def test_an_abstract_name_has_no_file_and_one_owner(opened: Open) -> None:
    name = f"@hybrid-test-{os.getpid()}"
    assert opened(f"unix:{name}").addresses == (f"unix:{name}",)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name[1:])
    with pytest.raises(BindError, match="already in use"):
        opened(f"unix:{name}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_file_belongs_to_the_user_of_the_workers(opened: Open, tmp_path: Path) -> None:
    opened(f"unix:{tmp_path}/a.sock", uid=65534, gid=65533)
    found = (tmp_path / "a.sock").stat()
    assert (found.st_uid, found.st_gid) == (65534, 65533)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_link_that_took_the_place_of_the_file_is_not_given_away(tmp_path: Path) -> None:
    victim, place = tmp_path / "precious", tmp_path / "a.sock"
    victim.write_text("precious")

    class Replaced(UnixSocket):
        """Its file is replaced between bind(2) and the change of its owner."""

        def _bind_file(self) -> None:
            super()._bind_file()
            place.unlink()
            place.symlink_to(victim)

    bind = parse_bind(f"unix:{place}")
    assert isinstance(bind, UnixBind)
    opened = Replaced(bind, UnixFile(mode=0o600, uid=65534, gid=65533), 5)
    opened.close()
    assert (victim.stat().st_uid, victim.stat().st_gid) == (0, 0)


# --- inherited


def bound(family: int, kind: int, address: object, *, listening: bool = True) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.bind(address)
    if listening and kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def test_an_inherited_listener_is_shared_and_tells_its_address(opened: Open, inherited: Inherit) -> None:
    sock = bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    port = sock.getsockname()[1]
    (listener,) = opened(str(inherited(sock))).all()
    assert (listener.slot, listener.kind, listener.address) == (None, ListenerKind.STREAM, f"127.0.0.1:{port}")
    assert not listener.sock.getblocking()
    assert not listener.sock.get_inheritable()


def test_an_inherited_datagram_socket_is_one(opened: Open, inherited: Inherit) -> None:
    sock = bound(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0))
    port = sock.getsockname()[1]
    (listener,) = opened(str(inherited(sock))).all()
    assert (listener.kind, listener.address) == (ListenerKind.DATAGRAM, f"udp://[::1]:{port}")


def test_an_inherited_unix_socket_keeps_its_file(opened: Open, inherited: Inherit, tmp_path: Path) -> None:
    sock = bound(socket.AF_UNIX, socket.SOCK_STREAM, f"{tmp_path}/a.sock")
    listeners = opened(str(inherited(sock)))
    assert listeners.addresses == (f"unix:{tmp_path}/a.sock",)
    listeners.close()
    assert (tmp_path / "a.sock").exists()


def test_an_inherited_abstract_socket_is_shown_with_an_at_sign(opened: Open, inherited: Inherit) -> None:
    name = f"hybrid-test-fd-{os.getpid()}"
    listeners = opened(str(inherited(bound(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name))))
    assert listeners.addresses == (f"unix:@{name}",)


def test_a_descriptor_that_is_no_socket_is_refused(opened: Open, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(BindError, match="the descriptor is no socket"):
        opened(f"fd://{file.fileno()}")


def test_a_descriptor_that_is_not_open_is_refused(opened: Open) -> None:
    with pytest.raises(BindError, match="no such descriptor was passed"):
        opened("fd://987654")


def test_a_stream_that_does_not_listen_is_refused_and_left_open(opened: Open, inherited: Inherit) -> None:
    bind = inherited(bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), listening=False))
    with pytest.raises(BindError, match="does not listen"):
        opened(str(bind))
    os.fstat(bind.fd)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_datagram_socket_that_is_not_bound_is_refused(opened: Open, inherited: Inherit, family: int) -> None:
    with pytest.raises(BindError, match="is not bound"):
        opened(str(inherited(socket.socket(family, socket.SOCK_DGRAM))))


def test_a_socket_of_another_kind_is_refused(opened: Open, inherited: Inherit) -> None:
    with pytest.raises(BindError, match="neither a TCP, UDP nor UNIX"):
        opened(str(inherited(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))))


# --- inherited groups


@pytest.fixture
def group(inherited: Inherit) -> Callable[..., list[str]]:
    """Make sockets of one address with SO_REUSEPORT, as systemd does with ReusePort=yes, and pass them on."""

    def make(count: int, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, **options: int) -> list[str]:
        port, binds = 0, []
        for _ in range(count):
            sock = socket.socket(family, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, options.get("shared", 1))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.get("only", 1))
            sock.bind(("::" if family == socket.AF_INET6 else "127.0.0.1", port))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            port = sock.getsockname()[1]
            binds.append(str(inherited(sock)))
        return binds

    return make


Passed = Callable[..., list[str]]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_inherited_listeners_of_one_address_are_one_for_each_slot(opened: Open, group: Passed, family: int) -> None:
    binds = group(3, family)
    listeners = opened(*binds, workers=3)
    assert [listener.slot for listener in listeners.all()] == [0, 1, 2]
    assert [f"fd://{listener.sock.fileno()}" for listener in listeners.all()] == binds
    assert len(listeners.addresses) == 1
    assert all(spread(listeners).values())


def test_two_inherited_groups_are_two(opened: Open, group: Passed) -> None:
    first, second = group(2), group(2)
    listeners = opened(first[0], second[0], first[1], second[1], workers=2)
    assert [listener.slot for listener in listeners.all()] == [0, 1, 0, 1]
    assert len(listeners.addresses) == 2


@pytest.mark.parametrize("only", [0, 1])
def test_workers_without_an_inherited_listener_get_one_beside_the_others(
    opened: Open, group: Passed, only: int
) -> None:
    """With IPV6_V6ONLY as they have it: two sockets that differ in it are not of one group."""
    listeners = opened(*group(2, socket.AF_INET6, only=only), workers=4)
    assert [listener.slot for listener in listeners.all()] == [0, 1, 2, 3]
    counts = spread(listeners)
    assert counts[2] + counts[3] == 0
    listeners.steer((0, 1, 2, 3))
    assert all(spread(listeners, 200).values())


def test_inherited_listeners_without_a_worker_are_shared_by_all(opened: Open, group: Passed) -> None:
    listeners = opened(*group(3), workers=2)
    assert [listener.slot for listener in listeners.all()] == [0, 1, None]


def test_of_inherited_listeners_all_or_none_are_steered_to(opened: Open, group: Passed) -> None:
    """The order in which they joined the group is unknown, and so are their indexes."""
    listeners = opened(*group(2), workers=3)
    listeners.steer((0,))
    counts = spread(listeners)
    assert (bool(counts[0]), bool(counts[1]), bool(counts[2])) == (True, True, False)
    listeners.steer((2,))
    assert spread(listeners) == {0: 0, 1: 0, 2: 60}


def test_inherited_listeners_are_neither_held_nor_refused_and_lose_our_program(opened: Open, group: Passed) -> None:
    binds = group(2)
    copies = [os.dup(int(bind.removeprefix("fd://"))) for bind in binds]
    listeners = opened(*binds, workers=3)
    listeners.steer((2,))
    listeners.hold()
    listeners.refuse()
    port = port_of(listeners)
    listeners.close()
    clients = connect(port, 40)
    for fd in copies:
        with socket.socket(fileno=fd) as sock:
            sock.setblocking(False)
            assert sock.accept()[0].close() is None
    for client in clients:
        client.close()


def test_inherited_datagram_sockets_of_one_address_are_all_shared(opened: Open, group: Passed) -> None:
    listeners = opened(*group(2, kind=socket.SOCK_DGRAM), workers=2)
    assert [listener.slot for listener in listeners.all()] == [None, None]


def test_one_listener_that_is_inherited_twice_is_shared(opened: Open, group: Passed) -> None:
    (bind,) = group(1)
    copy = os.dup(int(bind.removeprefix("fd://")))
    assert [listener.slot for listener in opened(bind, f"fd://{copy}", workers=2).all()] == [None, None]


def test_a_lone_inherited_listener_is_shared_though_others_could_join_it(opened: Open, group: Passed) -> None:
    assert [listener.slot for listener in opened(*group(1), workers=2).all()] == [None]


@pytest.mark.skipif(os.getuid() != 0, reason="needs sockets of another user")
def test_too_few_inherited_listeners_of_another_user_are_refused_with_advice(opened: Open, group: Passed) -> None:
    os.seteuid(65534)
    try:
        binds = group(2)
    finally:
        os.seteuid(0)
    assert len(opened(*binds, workers=2).all()) == 2
    os.seteuid(65534)
    try:
        binds = group(2)
    finally:
        os.seteuid(0)
    with pytest.raises(BindError, match=r"2 sockets of .* were passed, and one for worker 3 of 4 cannot be .*fewer"):
        opened(*binds, workers=4)


# --- systemd


def environment(pid: object, fds: str) -> dict[str, str]:
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": fds, "LISTEN_FDNAMES": "web", "HOME": "/"}


@pytest.mark.parametrize("fds", ["0", "", "x", "-1"])
def test_no_descriptors_announced_are_none(fds: str) -> None:
    environ = environment(42, fds)
    assert systemd_binds(environ, 42) == ()
    assert environ == {"HOME": "/"}


def test_descriptors_for_another_process_are_ignored() -> None:
    environ = environment(43, "2")
    assert systemd_binds(environ, 42) == ()
    assert environ["LISTEN_FDS"] == "2"


def test_without_systemd_there_are_none() -> None:
    assert systemd_binds({}, 42) == ()


_AS_ACTIVATED = """
import os
from hybrid.supervisor.listeners.sockets import systemd_binds
environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2"}
binds = systemd_binds(environ, 7)
assert [bind.fd for bind in binds] == [3, 4] and environ == {}
assert not os.get_inheritable(3) and not os.get_inheritable(4)
"""
_AS_CHEATED = """
from hybrid.supervisor.listeners.sockets import BindError, systemd_binds
try:
    systemd_binds({"LISTEN_PID": "7", "LISTEN_FDS": "900"}, 7)
except BindError as error:
    assert "no such descriptor was passed" in str(error)
else:
    raise SystemExit("no error")
"""


@pytest.mark.parametrize("code", [_AS_ACTIVATED, _AS_CHEATED])
def test_descriptors_of_systemd_start_at_3(code: str) -> None:
    """In a process of its own: numbers 3 and 4 are taken in this one."""
    sockets = [bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) for _ in range(2)]
    actions = [(os.POSIX_SPAWN_DUP2, os.dup(sock.fileno()), 3 + n) for n, sock in enumerate(sockets)]
    pid = os.posix_spawn(sys.executable, [sys.executable, "-P", "-c", code], os.environ, file_actions=actions)
    for sock, (_, copy, _) in zip(sockets, actions, strict=True):
        sock.close()
        os.close(copy)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- the end of the queues


def test_only_queues_that_hold_a_connection_wait(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", "udp://127.0.0.1:0", workers=3)
    assert listeners.waiting() == ()
    listeners.steer((1,))
    (client,) = connect(port_of(listeners), 1)
    assert listeners.waiting() == (Waiting(1, ends=True),)
    client.close()


def test_a_queue_that_others_hold_too_does_not_end_with_this_supervisor(opened: Open, inherited: Inherit) -> None:
    bind = inherited(bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)))
    listeners = opened(str(bind))
    (client,) = connect(port_of(listeners), 1)
    assert listeners.waiting() == (Waiting(None, ends=False),)
    client.close()


@pytest.mark.parametrize("name", ["file", "abstract"])
def test_a_unix_socket_refuses_others_and_gives_out_those_that_wait(opened: Open, tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "socket") if name == "file" else f"@hybrid-{os.getpid()}"
    address = path.replace("@", "\0")
    listeners = opened(f"unix:{path}")
    (listener,) = listeners.all()
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as late:
        client.connect(address)
        listeners.hold()
        assert not Path(path).exists()
        assert listeners.waiting() == (Waiting(None, ends=True),)
        listeners.refuse()
        assert late.connect_ex(address) != 0
        assert listener.sock.accept()[0].close() is None


# --- what an application has shut down


def shut_down(listeners: Listeners, *slots: int | None) -> None:
    for listener in listeners.all():
        if listener.slot in slots and listener.kind is ListenerKind.STREAM:
            listener.sock.shutdown(socket.SHUT_RDWR)


def test_listening_sockets_need_no_mending(opened: Open, tmp_path: Path) -> None:
    listeners = opened("127.0.0.1:0", f"unix:{tmp_path / 'socket'}", "udp://127.0.0.1:0")
    assert listeners.mend() == Mended()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("slots", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_member_that_was_shut_down_listens_again_and_is_steered_to(
    opened: Open, host: str, slots: tuple[int, ...]
) -> None:
    """Slot 0 has a port that the kernel chose, which it loses with its end; the others have bound it."""
    listeners = opened(f"{host}:0", workers=3)
    address, port = listeners.addresses[0], port_of(listeners)
    listeners.steer((0, 2))
    shut_down(listeners, *slots)
    assert listeners.mend() == Mended(repaired=(address,))
    assert listeners.mend() == Mended()
    assert port_of(listeners) == port
    for slot in range(3):
        listeners.steer((slot,))
        clients = connect(port, 5, host.strip("[]"))
        assert queued(listeners) == {other: 5 if other == slot else 0 for other in range(3)}
        for client in clients:
            client.close()


def test_the_order_of_several_members_that_were_shut_down_is_unknown_so_all_get_connections(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", workers=3)
    listeners.steer((0, 1))
    shut_down(listeners, 0, 1)
    listeners.mend()
    listeners.steer((1,))
    assert all(spread(listeners).values())


def test_a_slot_that_is_added_after_mending_has_the_last_index(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", workers=2)
    shut_down(listeners, 0)
    listeners.mend()
    listeners.grow(3)
    listeners.steer((2,))
    assert spread(listeners) == {0: 0, 1: 0, 2: 60}
    listeners.steer((0,))
    assert spread(listeners) == {0: 60, 1: 0, 2: 0}


def test_a_port_that_another_process_has_taken_meanwhile_is_reported_and_tried_again(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", workers=1)
    port = port_of(listeners)
    shut_down(listeners, 0)
    with socket.create_server(("127.0.0.1", port)):
        (failure,) = listeners.mend().failures
        assert "address already in use" in failure
    assert listeners.mend().repaired == (f"127.0.0.1:{port}",)
    connect(port, 1)[0].close()


def test_a_unix_socket_that_was_shut_down_is_replaced(opened: Open, tmp_path: Path) -> None:
    """The kernel lets it listen, but clients cannot connect."""
    path = str(tmp_path / "socket")
    listeners = opened(f"unix:{path}")
    shut_down(listeners, None)
    assert listeners.mend() == Mended(repaired=(f"unix:{path}",), is_remade=True)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_unix_socket_that_cannot_be_replaced_is_tried_again_and_has_no_queue(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listeners = opened(f"unix:{path}")
    shut_down(listeners, None)
    path.unlink()
    with bound(socket.AF_UNIX, socket.SOCK_STREAM, str(path)):
        (failure,) = listeners.mend().failures
        assert "address already in use" in failure
        assert listeners.waiting() == ()
    assert listeners.mend().repaired == (f"unix:{path}",)


def test_an_inherited_listener_that_was_shut_down_listens_again(opened: Open, inherited: Inherit) -> None:
    listeners = opened(str(inherited(bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)))))
    shut_down(listeners, None)
    assert listeners.mend().repaired == listeners.addresses
    connect(port_of(listeners), 1)[0].close()


def test_an_inherited_unix_socket_that_was_shut_down_must_be_passed_again(
    opened: Open, inherited: Inherit, tmp_path: Path
) -> None:
    listeners = opened(str(inherited(bound(socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "socket")))))
    shut_down(listeners, None)
    (failure,) = listeners.mend().failures
    assert "was shut down by a worker" in failure


def test_each_slot_has_a_queue_for_passed_connections_also_a_new_one(opened: Open) -> None:
    listeners = opened("127.0.0.1:0", "udp://127.0.0.1:0", workers=2, balance="auto")
    listeners.grow(3)
    queues = [listener for listener in listeners.all() if listener.kind is ListenerKind.PASSED]
    assert [queue.slot for queue in queues] == [0, 1, 2]
    queues[1].sock.send(b"one")
    (waiting,) = listeners.waiting()
    assert (waiting.slot, waiting.ends) == (1, True)


def test_datagrams_alone_need_no_queues(opened: Open) -> None:
    listeners = opened("udp://127.0.0.1:0", balance="auto")
    assert [listener.kind for listener in listeners.all()] == [ListenerKind.DATAGRAM] * 2
