"""What an account may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket

import pytest
from support.rows import for_each

from hybrid.supervisor.control.rights import ControlGroup, Peer, Rights, control_group, peer_of, rights_of

OWNER, OPERATORS = 1000, 50


@for_each(
    ("peer", "expected"),
    [
        (Peer(1, 0, 0, frozenset()), Rights.FULL),
        (Peer(1, OWNER, 1000, frozenset()), Rights.FULL),
        (Peer(1, OWNER, 1000, None), Rights.FULL),
        (Peer(1, 1001, OPERATORS, frozenset()), Rights.LOOK),
        (Peer(1, 1001, 1001, frozenset((7, OPERATORS))), Rights.LOOK),
        (Peer(1, 1001, 1001, frozenset((7,))), Rights.NONE),
        (Peer(1, 1001, 0, frozenset((0, OWNER))), Rights.NONE),
        (Peer(1, 1002, 1002, None), Rights.LOOK),
        (Peer(1, 1002, 1002, frozenset()), Rights.NONE),
        (Peer(1, 1003, 1003, None), Rights.NONE),
    ],
)
def test_rights_follow_from_the_credentials(peer: Peer, expected: Rights) -> None:
    assert rights_of(peer, OWNER, ControlGroup(OPERATORS, frozenset((1002,)))) is expected


@pytest.mark.parametrize(("uid", "expected"), [(0, Rights.FULL), (OWNER, Rights.FULL), (1001, Rights.NONE)])
def test_without_a_control_group_others_may_not_even_look(uid: int, expected: Rights) -> None:
    assert rights_of(Peer(1, uid, OPERATORS, frozenset((OPERATORS,))), OWNER, None) is expected


def test_the_kernel_names_the_process_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid(), frozenset(os.getgroups()))


def test_a_group_without_a_name_has_no_members() -> None:
    assert control_group(4_000_000_000) == ControlGroup(4_000_000_000)


def test_the_members_of_a_group_are_those_in_the_database() -> None:
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    for entry in grp.getgrall():
        assert control_group(entry.gr_gid).members >= {known[name] for name in entry.gr_mem if name in known}
