"""Look-up of users and groups by name or number, for `--user` and `--group`.

Each worker changes its account itself, right after the fork.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """The user and group of the workers; None: no change."""

    uid: int | None
    gid: int | None


class UnknownAccountError(ValueError):
    """The user or group does not exist, or this process may not become it; `field` is `user` or `group`."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def resolve(user: str | int | None, group: str | int | None) -> Account:
    """Return the numbers of a user and a group, each given by name or number.

    A user without a group gets its primary group. Raises `UnknownAccountError` for a name that does not exist, and,
    unless this process is root, for any account but its own. May block as long as a directory service does.
    """
    uid = gid = None
    if user is not None:
        uid, gid = _user(user)
    if group is not None:
        gid = _group(group)
    if os.geteuid() != 0 and (uid not in (None, os.geteuid()) or gid not in (None, os.getegid())):
        field = "group" if uid in (None, os.geteuid()) else "user"
        raise UnknownAccountError(
            field, "only root may change the user or the group of the workers: leave out --user/--group"
        )
    return Account(uid, gid)


def _user(user: str | int) -> tuple[int, int | None]:
    """Return uid and primary gid; a number without an entry in the user database is taken as it is."""
    number = _number(user, "user")
    if number is not None:
        try:
            return number, pwd.getpwuid(number).pw_gid
        except KeyError:
            # Containers run under numbers without a name. Docker uses group 0 for `USER 1000`, but keeping root's
            # group unasked would be a hole: use the user's number for the group.
            return number, number
    try:
        entry = pwd.getpwnam(str(user))
    except KeyError:
        raise UnknownAccountError("user", f"there is no user {user!r}; list the users with: getent passwd") from None
    return entry.pw_uid, entry.pw_gid


def _group(group: str | int) -> int:
    number = _number(group, "group")
    if number is not None:
        return number
    try:
        return grp.getgrnam(str(group)).gr_gid
    except KeyError:
        raise UnknownAccountError("group", f"there is no group {group!r}; list the groups with: getent group") from None


def _number(value: str | int, kind: str) -> int | None:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return None
    number = int(value)
    if not 0 <= number < 2**32 - 1:  # the last one means "no change" to setuid(2)
        raise UnknownAccountError(kind, f"{number} is not the number of a {kind}: use 0 to {2**32 - 2}")
    return number
