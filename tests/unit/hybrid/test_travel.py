"""Sending callables to another process: as a copy, or by the name of a variable."""

from __future__ import annotations

import socket
import sys
import threading
import types
from typing import Any

import dill
import pytest
from starlette.datastructures import State

from hybrid.config.targets import TargetError
from hybrid.config.travel import Parcel, home_of, parcel, pickled

HERE = sys.modules[__name__].__file__


class Asking:
    """An object that delegates missing attributes to another one, as proxies do."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def __call__(self) -> object:
        return self.inner


class AnsweringMeta(type):
    """Like the metaclass of pydantic, and of enumerations before Python 3.12."""

    def __getattr__(cls, name: str) -> object:
        raise AttributeError(name)


class Answering(metaclass=AnsweringMeta):
    pass


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def __call__(self) -> object:
        return self.inner


class Listing(list[object]):
    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def __call__(self) -> object:
        return [*self]


class Holding:
    """An object that cannot be copied."""

    def __init__(self) -> None:
        self.numbers = (number for number in range(3))

    def __call__(self, sock: object, address: object) -> None: ...


holding = Holding()
asking = Asking([1, 2])


def test_a_closure_travels_with_its_variables() -> None:
    greeting = "hello"
    assert dill.loads(pickled(lambda name: f"{greeting} {name}"))("you") == "hello you"


def test_a_lock_is_replaced_by_a_new_one() -> None:
    lock = threading.Lock()
    assert dill.loads(pickled(lambda: lock))().acquire(blocking=False)


@pytest.mark.parametrize("kind", [Asking, Slotted])
def test_an_object_whose_getattr_needs_its_attributes_travels(kind: type[Any]) -> None:
    assert dill.loads(pickled(kind([1, 2])))() == [1, 2]


def test_a_container_with_a_getattr_keeps_its_items() -> None:
    assert dill.loads(pickled(Listing([1, 2])))() == [1, 2]


def test_a_class_whose_metaclass_has_a_getattr_travels() -> None:
    assert dill.loads(pickled(lambda: Answering))() is Answering


def test_the_state_of_starlette_travels() -> None:
    state = State({"answer": 42})
    assert dill.loads(pickled(lambda: state))().answer == 42


def test_an_object_that_cannot_be_pickled_is_refused() -> None:
    generator = (number for number in range(3))
    with pytest.raises(TargetError, match="cannot be sent to a worker"):
        parcel(lambda: generator)


def test_an_open_socket_cannot_travel() -> None:
    with socket.socket() as sock, pytest.raises(TargetError, match="cannot pickle 'socket' object"):
        parcel(lambda: sock)


def test_an_object_that_cannot_be_copied_is_imported_by_name() -> None:
    assert parcel(holding) == Parcel(None, f"{__name__}:holding", ((__name__, HERE), (__name__, HERE)))


def test_an_object_that_can_be_copied_has_a_name_too_if_a_module_has_it() -> None:
    sent = parcel(asking)
    assert sent.content is not None
    assert sent.reference == f"{__name__}:asking"


def test_an_object_without_a_name_that_cannot_be_copied_is_refused() -> None:
    with pytest.raises(TargetError, match="Holding cannot be sent to a worker: cannot pickle 'generator' object"):
        parcel(Holding())


def test_the_home_of_a_callable_is_the_file_of_its_module() -> None:
    assert home_of(socket.create_connection) == ("socket", socket.__file__)


def test_a_builtin_has_no_home() -> None:
    assert home_of(len) is None


def test_objects_of_main_have_no_home() -> None:
    """They are sent by value: another process has another `__main__`."""
    assert home_of(types.FunctionType((lambda: None).__code__, {"__name__": "__main__"})) is None


def test_the_home_of_an_instance_is_the_home_of_its_class() -> None:
    assert home_of(holding) == (__name__, HERE)
