"""Calls as bytes: what travels by name, by value and beside the pickle, and what is refused with the path to it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import greenlet
import numpy as np
import pytest
from support.rows import for_each

from hybrid.workers.offload.packing import MOST_BUFFERS, Packed, pack_call, pack_result, unpack
from hybrid.workers.offload.refusals import path_to


class Cart:
    """Holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def total(self, count: int) -> int:
        return count * 3


class Slotted:
    """Holds a lock, and has no dictionary."""

    __slots__ = ("lock", "unset")

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Adder:
    """Can be called."""

    def __init__(self, base: int) -> None:
        self.base = base

    def __call__(self, number: int) -> int:
        return self.base + number

    def add(self, number: int) -> int:
        return self.base + number


class Wicked:
    """Fails when it is pickled."""

    def __reduce__(self) -> Any:
        raise LookupError("not me")


CART = Cart()
PRICES = [1, 2, 3]
FACTOR = 3


def made(packed: Packed) -> Any:
    """Return the object, made from copies of the buffers."""
    return unpack(packed.pickle, [bytearray(one) for one in packed.buffers], is_dill=packed.is_dill)


def result_of(packed: Packed) -> Any:
    """Make the call."""
    function, args, kwargs = made(packed)
    return function(*args, **kwargs)


# --- what travels


def test_an_importable_function_travels_as_its_name() -> None:
    packed = pack_call(os.path.basename, ("/a/b",), {})
    assert len(packed.pickle) < 100
    assert not packed.is_dill
    assert result_of(packed) == "b"


def callables() -> Iterator[Any]:
    base = 4

    def inner(number: int, *, factor: int = FACTOR) -> int:
        return base + number * factor

    def recursive(number: int) -> int:
        return 1 if number == 0 else number * recursive(number - 1)

    yield pytest.param(lambda number: number * FACTOR, 15, id="lambda")
    yield pytest.param(inner, 19, id="closure")
    yield pytest.param(recursive, 120, id="recursive")
    yield pytest.param(Adder(2), 7, id="object")
    yield pytest.param(Adder(2).add, 7, id="method")
    yield pytest.param(functools.partial(pow, 2), 32, id="partial")
    yield pytest.param(functools.partial(lambda one, two: one - two, 9), 4, id="partial-of-a-lambda")
    yield pytest.param(CART.total, 15, id="method-of-a-global")


@pytest.mark.parametrize(("function", "result"), list(callables()))
def test_a_callable_is_the_same_elsewhere(function: Callable[[int], int], result: int) -> None:
    packed = pack_call(function, (5,), {})
    assert result_of(packed) == result
    assert packed.size < 1000


def test_keywords_travel_too() -> None:
    assert result_of(pack_call(lambda one, *, two: one + two, (1,), {"two": 2})) == 3


def test_a_global_of_the_functions_module_travels_by_name() -> None:
    """It may hold a lock: the other process has one of its own."""
    cart, prices = CART, PRICES
    found = result_of(pack_call(lambda: (cart, prices), (), {}))
    assert found[0] is CART
    assert found[1] is PRICES


def test_a_closure_sees_the_globals_of_its_module() -> None:
    assert result_of(pack_call(lambda: CART.total(FACTOR), (), {})) == 9


def test_data_of_arrays_travels_beside_the_pickle() -> None:
    array = np.arange(10_000.0)
    packed = pack_call(lambda one: one, (array,), {})
    assert [one.nbytes for one in packed.buffers] == [80_000]
    assert len(packed.pickle) < 2000
    assert packed.size == len(packed.pickle) + 80_000
    assert np.array_equal(result_of(packed), array)


@pytest.mark.parametrize("is_dill", [False, True])
def test_buffers_beyond_the_most_are_in_the_pickle(is_dill: bool) -> None:
    arrays = [np.array([number]) for number in range(MOST_BUFFERS + 10)]
    packed = pack_call((lambda *found: found) if is_dill else np.concatenate, (arrays,), {})
    assert packed.is_dill == is_dill
    assert len(packed.buffers) == MOST_BUFFERS
    _, (found,), _ = made(packed)
    assert [int(one[0]) for one in found] == list(range(MOST_BUFFERS + 10))


def test_an_error_travels_with_its_arguments() -> None:
    error, text = made(pack_result((LookupError("lost", 3), "where")))
    assert (type(error), error.args, text) == (LookupError, ("lost", 3), "where")


# --- what is refused


def a_generator() -> Iterator[int]:
    yield 1


async def a_coroutine() -> None:
    pass


async def an_async_generator() -> Any:
    yield 1


@contextlib.contextmanager
def kept(value: Any, close: Callable[[], object] = lambda: None) -> Iterator[Any]:
    yield value
    close()


def a_traceback() -> Any:
    try:
        raise LookupError
    except LookupError as error:
        return error.__traceback__


@contextlib.contextmanager
def a_loop() -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@contextlib.contextmanager
def a_future() -> Iterator[Any]:
    with a_loop() as loop:
        yield loop.create_future()


@contextlib.contextmanager
def a_coroutine_object() -> Iterator[Any]:
    one = a_coroutine()
    yield one
    one.close()


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE")
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "lock": (lambda: kept(threading.Lock()), "_thread.lock"),
    "rlock": (lambda: kept(threading.RLock()), "_thread.RLock"),
    "event": (lambda: kept(threading.Event()), "Event._cond -> Condition._lock: _thread.lock"),
    "thread": (lambda: kept(threading.Thread()), "threading.Thread"),
    "local": (lambda: kept(threading.local()), "_thread._local"),
    "file": (lambda: open(os.devnull), "_io.TextIOWrapper"),  # noqa: PTH123, SIM115
    "binary": (lambda: open(os.devnull, "rb"), "_io.BufferedReader"),  # noqa: PTH123, SIM115
    "socket": (socket.socket, "socket.socket"),
    "loop": (a_loop, "asyncio.unix_events._UnixSelectorEventLoop"),
    "future": (a_future, "_asyncio.Future"),
    "context": (lambda: kept(contextvars.copy_context()), "_contextvars.Context"),
    "variable": (lambda: kept(VARIABLE), "_contextvars.ContextVar"),
    "token": (lambda: kept(VARIABLE.set(1)), "_contextvars.Token"),
    "generator": (lambda: kept(a_generator()), "generator"),
    "coroutine": (a_coroutine_object, "coroutine"),
    "async-generator": (lambda: kept(an_async_generator()), "async_generator"),
    "frame": (lambda: kept(sys._getframe()), "frame"),
    "traceback": (lambda: kept(a_traceback()), "traceback"),
    "greenlet": (lambda: kept(greenlet.greenlet(len)), "greenlet.greenlet"),
}


@for_each("kind", REFUSED)
def test_what_belongs_to_its_process_is_refused(kind: str) -> None:
    make, words = REFUSED[kind]
    with make() as value, pytest.raises(TypeError) as caught:
        pack_call(print, (1, value), {})
    separator = " -> " if "->" in words else ": "
    assert str(caught.value) == f"cannot be offloaded: argument 2{separator}{words}"


def with_variable() -> Callable[[], object]:
    lock = threading.Lock()
    return lambda: lock


def with_default() -> Callable[[], object]:
    def function(lock: Any = threading.Lock()) -> object:  # noqa: B008
        return lock

    return function


def cycle() -> list[Any]:
    found: list[Any] = []
    found += [found, threading.Lock()]
    return found


LOCK = "_thread.lock"
PLACES: dict[str, tuple[Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]], str]] = {
    "attribute": (lambda: (print, (1, Cart()), {}), f"argument 2 -> Cart.lock: {LOCK}"),
    "slot": (lambda: (print, (Slotted(),), {}), f"argument 1 -> Slotted.lock: {LOCK}"),
    "dict": (lambda: (print, ({"cart": [0, Cart()]},), {}), f"argument 1 -> ['cart'] -> [1] -> Cart.lock: {LOCK}"),
    "deque": (lambda: (print, (collections.deque([Cart()]),), {}), f"argument 1 -> [0] -> Cart.lock: {LOCK}"),
    "keyword": (lambda: (print, (), {"end": Cart()}), f"argument end -> Cart.lock: {LOCK}"),
    "variable": (lambda: (with_variable(), (), {}), f"the function -> variable lock: {LOCK}"),
    "default": (lambda: (with_default(), (), {}), f"the function -> default 1: {LOCK}"),
    "method": (lambda: (Cart().total, (1,), {}), f"the function -> its object -> Cart.lock: {LOCK}"),
    "partial": (
        lambda: (functools.partial(print, 1, end=Cart()), (), {}),
        f"the function -> argument end -> Cart.lock: {LOCK}",
    ),
    "cycle": (lambda: (print, (cycle(),), {}), f"argument 1 -> [1]: {LOCK}"),
}


@for_each("place", PLACES)
def test_the_error_names_the_path(place: str) -> None:
    make, words = PLACES[place]
    function, args, kwargs = make()
    with pytest.raises(TypeError) as caught:
        pack_call(function, args, kwargs)
    assert str(caught.value) == f"cannot be offloaded: {words}"


def test_a_result_is_refused_in_the_same_way() -> None:
    with pytest.raises(TypeError, match=r"^cannot be offloaded: the result -> \[0\] -> Cart\.lock: _thread\.lock$"):
        pack_result([Cart()])


def test_a_held_lock_is_refused_at_once() -> None:
    """It would be a held lock elsewhere, for which a call waits forever."""
    lock = threading.Lock()
    with lock, pytest.raises(TypeError, match="variable lock"):
        pack_call(lambda: lock, (), {})


def test_a_file_that_is_open_for_writing_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as file:
        file.write("written")
        file.flush()
        with pytest.raises(TypeError, match=r"argument 1: _io\.TextIOWrapper"):
            pack_call(print, (file,), {})
        assert path.read_text() == "written"


def test_an_error_of_an_objects_own_method_is_a_type_error_with_its_text() -> None:
    with pytest.raises(TypeError, match=r"^cannot be offloaded: LookupError: not me$") as caught:
        pack_call(print, (Wicked(),), {})
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_buffer_that_is_not_contiguous_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^cannot be offloaded: BufferError: "):
        pack_call(print, (pickle.PickleBuffer(memoryview(bytearray(10))[::2]),), {})


def test_what_is_nested_too_deeply_is_a_type_error() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    try:
        with pytest.raises(TypeError, match="nested too deeply"):
            pack_call(print, (nested,), {})
    finally:
        while nested:  # its deallocation must not recurse
            nested = nested.pop()


def test_the_search_for_a_path_ends() -> None:
    """It looks at no more than 20,000 objects."""
    lock = threading.Lock()
    assert path_to(lock, [("argument 1", [[number] for number in range(50_000)])]) == "it contains a _thread.lock"
