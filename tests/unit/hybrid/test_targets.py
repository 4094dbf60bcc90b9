"""Targets: the form of a reference, what is suggested for a wrong one, and callables as bytes."""

from __future__ import annotations

import socket
import sys
import types

import dill
import pytest

from hybrid.targets import TargetError, check_reference, describe, home_of, pickled


@pytest.mark.parametrize("text", ["app:handle", "a.b.c:d.e", "_x:y1"])
def test_a_reference_of_the_right_form_is_taken(text: str) -> None:
    assert check_reference(text) == text


@pytest.mark.parametrize(
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
def test_a_wrong_reference_is_answered_with_what_to_write(text: str, advice: str) -> None:
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


def test_a_closure_travels_with_what_it_holds() -> None:
    greeting = "hello"
    assert dill.loads(pickled(lambda name: f"{greeting} {name}"))("you") == "hello you"


def test_something_that_cannot_travel_is_explained() -> None:
    generator = (number for number in range(3))
    with pytest.raises(TargetError, match="cannot be sent to a worker"):
        pickled(lambda: generator)


def test_the_home_of_a_callable_is_the_file_of_its_module() -> None:
    assert home_of(socket.create_connection) == ("socket", socket.__file__)


def test_a_builtin_has_no_home() -> None:
    assert home_of(len) is None


def test_what_is_defined_in_main_has_no_home() -> None:
    """It travels by value: another process has another `__main__`."""
    assert home_of(types.FunctionType((lambda: None).__code__, {"__name__": "__main__"})) is None


def test_the_home_of_an_instance_is_that_of_its_class() -> None:
    class Handler:
        def __call__(self) -> None: ...

    assert home_of(Handler()) == (__name__, sys.modules[__name__].__file__)
