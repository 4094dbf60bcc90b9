"""Users and groups by name or number."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from hybrid.config.privileges import Account, UnknownAccountError, resolve

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
NOBODY = pwd.getpwnam("nobody")


def test_no_user_and_no_group_means_no_change() -> None:
    assert resolve(None, None) == Account(None, None)


@needs_root
def test_a_user_by_name_brings_the_primary_group() -> None:
    assert resolve("nobody", None) == Account(NOBODY.pw_uid, NOBODY.pw_gid)


@needs_root
@pytest.mark.parametrize("number", [NOBODY.pw_uid, str(NOBODY.pw_uid)])
def test_a_user_by_number_brings_the_primary_group(number: int | str) -> None:
    assert resolve(number, None) == Account(NOBODY.pw_uid, NOBODY.pw_gid)


@needs_root
def test_a_number_without_a_name_never_keeps_the_group_of_root() -> None:
    assert resolve(123_456, None) == Account(123_456, 123_456)


@needs_root
def test_an_explicit_group_overrides_the_primary_group() -> None:
    other = grp.getgrgid(0)
    assert resolve("nobody", other.gr_name) == Account(NOBODY.pw_uid, 0)


@needs_root
def test_a_group_alone_leaves_the_user() -> None:
    assert resolve(None, "1234") == Account(None, 1234)


def test_the_current_account_is_always_allowed() -> None:
    assert resolve(os.geteuid(), os.getegid()) == Account(os.geteuid(), os.getegid())


def test_an_unknown_user_is_named() -> None:
    with pytest.raises(UnknownAccountError, match="there is no user 'no-such-user'"):
        resolve("no-such-user", None)


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(UnknownAccountError, match="there is no group 'no-such-group'"):
        resolve(None, "no-such-group")


@pytest.mark.parametrize("number", [-1, 2**32 - 1, "4294967295"])
def test_a_number_out_of_range_is_refused(number: int | str) -> None:
    with pytest.raises(UnknownAccountError, match="use 0 to"):
        resolve(number, None)


def test_only_root_may_become_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnknownAccountError, match="only root"):
        resolve(1001, None)


@pytest.mark.parametrize(("user", "group", "field"), [("no-such", 0, "user"), (0, "no-such", "group"), (-1, 0, "user")])
def test_the_option_at_fault_is_named(user: int | str, group: int | str, field: str) -> None:
    with pytest.raises(UnknownAccountError) as caught:
        resolve(user, group)
    assert caught.value.field == field
