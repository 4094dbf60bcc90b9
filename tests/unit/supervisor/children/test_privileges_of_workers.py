"""Dropping privileges: which rights go, and in which order."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Sequence

import pytest
from support.rows import for_each

from hybrid.supervisor.children.spawn import CannotDrop, drop_privileges

NOBODY = pwd.getpwnam("nobody")
STRANGER = 54321
"""A user id without an account."""


class FakeIds:
    """Records the account of the process."""

    def __init__(self, euid: int = 0) -> None:
        self.done: list[tuple[object, ...]] = []
        self._euid = euid
        self._refusal: OSError | None = None

    def refuses(self, number: int) -> None:
        """Let every change fail."""
        self._refusal = OSError(number, os.strerror(number))

    def geteuid(self) -> int:
        return self._euid

    def initgroups(self, username: str, gid: int, /) -> None:
        self._do("initgroups", username, gid)

    def setgroups(self, groups: Sequence[int], /) -> None:
        self._do("setgroups", *groups)

    def setgid(self, gid: int, /) -> None:
        self._do("setgid", gid)

    def setuid(self, uid: int, /) -> None:
        self._do("setuid", uid)

    def _do(self, *what: object) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.done.append(what)


@for_each(
    ("uid", "gid", "done"),
    [
        (None, None, []),
        (NOBODY.pw_uid, 7, [("initgroups", "nobody", 7), ("setgid", 7), ("setuid", NOBODY.pw_uid)]),
        (
            NOBODY.pw_uid,
            None,
            [("initgroups", "nobody", NOBODY.pw_gid), ("setgid", NOBODY.pw_gid), ("setuid", NOBODY.pw_uid)],
        ),
        (STRANGER, 7, [("setgroups", 7), ("setgid", 7), ("setuid", STRANGER)]),
        (STRANGER, None, [("setgroups",), ("setuid", STRANGER)]),
        (None, 7, [("setgroups", 7), ("setgid", 7)]),
    ],
)
def test_groups_go_first_and_the_user_last(uid: int | None, gid: int | None, done: list[tuple[object, ...]]) -> None:
    ids = FakeIds()
    drop_privileges(uid, gid, ids)
    assert ids.done == done


def test_without_root_only_the_own_account_is_allowed() -> None:
    ids = FakeIds(euid=STRANGER)
    drop_privileges(STRANGER, 7, ids)
    assert ids.done == [("setgid", 7), ("setuid", STRANGER)]


def test_a_refusal_names_the_account_and_the_remedy() -> None:
    ids = FakeIds(euid=STRANGER)
    ids.refuses(errno.EPERM)
    with pytest.raises(
        CannotDrop, match="cannot run workers as user 1 group 2: operation not permitted; start as root"
    ):
        drop_privileges(1, 2, ids)
