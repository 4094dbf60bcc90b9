"""Methods of a worker are replaced in a forked child. A worker that descends from such a child has them again."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from hybrid.workers.common import forks


class Request:
    def __init__(self) -> None:
        self.ended = True

    __slots__ = ("ended",)

    def answer(self) -> str:
        return f"answered by {self.name()}"

    def name(self) -> str:
        return "a request"

    @staticmethod
    def call() -> str:
        return "called"


class Logged(Request):
    __slots__ = ()

    def name(self) -> str:
        return "a logged request"


@pytest.fixture(autouse=True)
def replacements(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(forks, "_replacements", [])
    yield
    forks._restore()


def test_a_child_has_other_methods_in_a_class_and_its_subclasses() -> None:
    forks.replace(Request, name=lambda _: "nobody", call=lambda *_: "refused", ended=False)
    request, logged = Request(), Logged()
    answer = request.answer  # the application holds it already
    forks._replace()
    assert answer() == request.answer() == logged.answer() == "answered by nobody"
    assert (request.call(), request.ended, logged.ended) == ("refused", False, False)


def test_a_child_has_other_values_in_a_module() -> None:
    module = ModuleType("module")
    module.__dict__["buffer"] = b"worker"
    forks.replace(module, buffer=b"child")
    forks._replace()
    assert module.__dict__["buffer"] == b"child"


def test_a_worker_below_a_child_of_a_child_has_its_own_again() -> None:
    forks.replace(Request, name=lambda _: "nobody", call=lambda *_: "refused", ended=False)
    forks._replace()
    forks._replace()  # in a child of the child
    forks._restore()
    request, logged = Request(), Logged()
    assert (request.answer(), request.call(), request.ended) == ("answered by a request", "called", True)
    assert (logged.answer(), logged.call(), logged.ended) == ("answered by a logged request", "called", True)
    assert "call" not in vars(Logged)
