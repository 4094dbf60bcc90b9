"""Names and numbers of users and groups: what `--user` and `--group` accept.

Only looks up; the change itself is made in each worker, right after the fork.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """Who the workers become; None: who they are already."""

    uid: int | None
    gid: int | None


class UnknownAccountError(ValueError):
    """There is no such user or group, or this process may not become it; `field` is `user` or `group`."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def resolve(user: str | int | None, group: str | int | None) -> Account:
    """Return the numbers for a user and a group, each given by name or number.

    A user alone brings its primary group. Raises `UnknownAccountError` for a name that does not exist, and for any
    other account than the own one unless this process is root. May block as long as a directory service does.
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
            # containers run as numbers nobody has a name for; as in `USER 1000`, the group then is 0 in docker, but
            # to keep root's group unasked would be a hole: take the same number
            return number, number
    try:
        entry = pwd.getpwnam(str(user))
    except KeyError:
        raise UnknownAccountError("user", f"there is no user {user!r}; see who there is with: getent passwd") from None
    return entry.pw_uid, entry.pw_gid


def _group(group: str | int) -> int:
    number = _number(group, "group")
    if number is not None:
        return number
    try:
        return grp.getgrnam(str(group)).gr_gid
    except KeyError:
        raise UnknownAccountError(
            "group", f"there is no group {group!r}; see which there are with: getent group"
        ) from None


def _number(value: str | int, kind: str) -> int | None:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return None
    number = int(value)
    if not 0 <= number < 2**32 - 1:  # the last one means "leave as it is" to setuid(2)
        raise UnknownAccountError(kind, f"{number} is not the number of a {kind}: use 0 to {2**32 - 2}")
    return number
