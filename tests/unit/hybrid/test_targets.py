"""Targets: the form of a reference, and the suggestion for a wrong one."""

from __future__ import annotations

import socket

import pytest
from support.rows import for_each

from hybrid.config.targets import TargetError, check_reference, describe


@pytest.mark.parametrize("text", ["app:handle", "a.b.c:d.e", "_x:y1"])
def test_a_reference_of_the_right_form_is_taken(text: str) -> None:
    assert check_reference(text) == text


@for_each(
    ("text", "advice"),
    [
        ("app", "app:handle"),
        ("app.py", "app:handle"),
        ("./app.py", "app:handle"),
        ("pkg/app.py:serve", "pkg.app:serve"),
        ("app.py:serve", "app:serve"),
        ("/srv/my-app.py", "myapp:handle"),
        ("", "myapp:handle"),
        ("app:", "is not the name of an attribute"),
        (":handle", "is not the name of a module"),
        ("my-app:handle", "'my-app' is not the name of a module"),
        ("app:handle()", "'handle()' is not the name of an attribute"),
        ("a:b:c", "'b:c' is not the name of an attribute"),
        ("a..b:c", "'a..b' is not the name of a module"),
    ],
)
def test_a_wrong_reference_gets_advice(text: str, advice: str) -> None:
    with pytest.raises(TargetError, match="module:attribute") as caught:
        check_reference(text)
    assert advice in str(caught.value)


def test_a_reference_describes_itself() -> None:
    assert describe("app:handle") == "app:handle"


def test_a_callable_is_described_by_its_module_and_name() -> None:
    assert describe(socket.create_connection) == "socket:create_connection"


def test_an_object_with_a_call_method_is_described_by_its_type() -> None:
    class Handler:
        def __call__(self, sock: object, address: object) -> None: ...

    assert describe(Handler()).endswith(":" + Handler.__qualname__)
