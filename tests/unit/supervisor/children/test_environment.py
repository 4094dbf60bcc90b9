"""HOME and its like follow the account that a worker runs as."""

from __future__ import annotations

import pwd

from hybrid.supervisor.children.environment import change_account

NOBODY = 65534
NAMELESS = 54321  # an id without an entry in the user database


def test_the_variables_of_root_become_those_of_the_account() -> None:
    environ = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "PATH": "/bin"}
    change_account(environ, 0, NOBODY)
    entry = pwd.getpwuid(NOBODY)
    assert environ == {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "PATH": "/bin"}


def test_a_home_that_was_set_on_purpose_stays() -> None:
    environ = {"HOME": "/srv/app", "USER": "deploy"}
    change_account(environ, 0, NOBODY)
    assert environ == {"HOME": "/srv/app", "USER": "deploy"}


def test_an_account_without_a_name_has_the_root_directory_as_its_home() -> None:
    environ = {"HOME": "/root", "USER": "root"}
    change_account(environ, 0, NAMELESS)
    assert environ == {"HOME": "/"}


def test_the_same_account_changes_nothing() -> None:
    environ = {"HOME": "/root"}
    change_account(environ, 0, 0)
    assert environ == {"HOME": "/root"}
