"""Supervisors that run here: their names in `/proc/net/unix`, their greetings, and which one is meant."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.control_peer import GREETING, ControlPeer

from hybrid.control.choosing import choose
from hybrid.control.errors import ChoiceError
from hybrid.control.finding import TABLE as PROC
from hybrid.control.finding import Findings, Found, find, listening_names
from hybrid.control.messages import Greeting

DEADLINE = 20.0

TABLE = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 31842 @hybrid/shop/4711.0a1b2c3d
0000000000000000: 00000003 00000000 00000000 0001 03 31850 @hybrid/shop/4711.0a1b2c3d
0000000000000000: 00000002 00000000 00010000 0001 01 31843 /run/systemd/private
0000000000000000: 00000002 00000000 00000000 0002 01 31844 @hybrid/datagram/1.0a1b2c3d
0000000000000000: 00000002 00000000 00000000 0001 01 31845
0000000000000000: 00000002 00000000 00010000 0001 01 31846 @hybrid/blog.example-1/99.ffffffff
0000000000000000: 00000002 00000000 00010000 0001 01 31847 @hybrid/not/of this form
0000000000000000: 00000002 00000000 00010000 0005 01 31848 @hybrid/packets/3.0a1b2c3d
broken line
0000000000000000: 00000002 00000000 flags 0001 01 31849 @hybrid/odd/3.0a1b2c3d
"""


def test_names_are_those_of_listening_stream_sockets() -> None:
    assert listening_names(TABLE) == ["@hybrid/shop/4711.0a1b2c3d", "@hybrid/blog.example-1/99.ffffffff"]


def test_an_empty_table_has_no_names() -> None:
    assert listening_names("") == []


def _table(tmp_path: Path, *names: str) -> Path:
    lines = [f"0000000000000000: 00000002 00000000 00010000 0001 01 1 {name}\n" for name in names]
    file = tmp_path / "unix"
    file.write_text("".join(lines))
    return file


def _name(name: str = "shop") -> str:
    return f"@hybrid/{name}/1.{secrets.token_hex(8)}"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that listens at an abstract name, and never accepts."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(b"\0" + _name()[1:].encode())
        sock.listen(1)
        yield sock


def _name_of(sock: socket.socket) -> str:
    return "@" + sock.getsockname()[1:].decode()


def test_the_kernels_table_has_the_name_of_a_supervisor() -> None:
    with ControlPeer(address=_name()) as peer:
        assert peer.address in listening_names(PROC.read_text())


def test_each_name_is_asked_for_its_greeting(tmp_path: Path) -> None:
    greeting = {**GREETING, "name": "blog", "pid": 5}
    with ControlPeer(address=_name()) as peer, ControlPeer(address=_name(), greeting=greeting) as other:
        findings = find(DEADLINE, _table(tmp_path, peer.address, other.address))
    assert [one.greeting for one in findings.found] == [Greeting("0.1.0", "blog", 5), Greeting("0.1.0", "shop", 4711)]
    assert {one.uid for one in findings.found} == {os.geteuid()}
    assert findings.silent == ()


def test_a_name_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert find(table=_table(tmp_path, _name())).found == ()


@pytest.mark.parametrize(
    "greeting",
    [
        {"error": {"code": "refused", "reason": "not your account"}},
        {"hybrid": "9.0", "protocol": 9, "name": "shop", "pid": 1},
        b"SSH-2.0-OpenSSH_9.6\n",
        b"x" * (1 << 16),
    ],
)
def test_a_name_that_does_not_greet_as_a_supervisor_is_left_out(tmp_path: Path, greeting: object) -> None:
    with ControlPeer(address=_name(), greeting=greeting) as peer:
        findings = find(DEADLINE, _table(tmp_path, peer.address))
    assert findings == Findings(())


def test_a_supervisor_that_is_stopped_is_told(tmp_path: Path, listener: socket.socket) -> None:
    """One that accepts nothing is like one that got SIGSTOP."""
    findings = find(timeout=0.01, table=_table(tmp_path, _name_of(listener)))
    assert findings == Findings((), (_name_of(listener),))


def test_without_proc_nothing_is_found(tmp_path: Path) -> None:
    assert find(table=tmp_path / "nowhere").found == ()


# --- choosing

ME, OTHER = 1000, 2000


def _found(name: str, pid: int, uid: int = ME) -> Found:
    return Found(f"@hybrid/{name}/{pid}.00000000", Greeting("0.1.0", name, pid), uid)


SHOP, BLOG = _found("shop", 4711), _found("blog", 4800)


def test_the_only_supervisor_is_chosen() -> None:
    assert choose([SHOP], ME) is SHOP


def test_one_of_another_account_is_not_chosen_by_itself() -> None:
    """Any account may listen at an abstract name."""
    assert choose([SHOP, _found("blog", 5, OTHER)], ME) is SHOP


@pytest.mark.parametrize("wanted", ["blog", "4800"])
def test_a_supervisor_is_named_by_name_or_pid(wanted: str) -> None:
    assert choose([SHOP, BLOG], ME, wanted) is BLOG


def test_one_of_another_account_can_be_named() -> None:
    theirs = _found("theirs", 5, OTHER)
    assert choose([SHOP, theirs], ME, "theirs") is theirs


def test_of_two_with_a_name_that_of_this_account_is_meant() -> None:
    assert choose([_found("shop", 1, OTHER), SHOP], ME, "shop") is SHOP


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([SHOP, BLOG], None, "several supervisors are running: shop (pid 4711), blog (pid 4800): write -n shop"),
        ([SHOP, _found("shop", 5)], None, "shop (pid 4711), shop (pid 5): write -n 4711"),
        ([SHOP, _found("shop", 5)], "shop", "shop (pid 4711), shop (pid 5): write -n 4711"),
        ([SHOP, SHOP], None, "write --control @hybrid/shop/4711.00000000"),
    ],
)
def test_several_are_listed_with_what_to_type(found: list[Found], wanted: str | None, expected: str) -> None:
    with pytest.raises(ChoiceError) as raised:
        choose(found, ME, wanted)
    assert str(raised.value).endswith(expected)
    assert raised.value.is_ambiguous


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([], None, "start one with hybrid run, or name the control socket with --control PATH"),
        ([], "shop", "there is no supervisor 'shop': none is running here that this account may ask"),
        ([BLOG], "shop", "there is no supervisor 'shop', but blog (pid 4800): write -n blog"),
        ([_found("shop", 5, OTHER)], None, "only of others: shop (pid 5): write -n shop"),
    ],
)
def test_if_there_is_none_the_error_says_what_to_type(found: list[Found], wanted: str | None, expected: str) -> None:
    with pytest.raises(ChoiceError) as raised:
        choose(found, ME, wanted)
    assert str(raised.value).endswith(expected)
    assert not raised.value.is_ambiguous
