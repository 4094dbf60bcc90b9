"""Loading the target: each failure is one clear message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.workers.boot.application import Application
from hybrid.workers.boot.target import load
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory of modules, first on the path; modules imported from it are forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(reference: str) -> str:
    with pytest.raises(BootError) as raised:
        load(Application(reference=reference))
    assert raised.value.code is Exit.TARGET
    assert str(raised.value) == raised.value.reason
    return raised.value.reason


def test_an_attribute_of_a_module_is_found(folder: Path) -> None:
    (folder / "sample_app.py").write_text("class Inner:\n    value = 7\ndef handle(): ...\n")
    assert load(Application(reference="sample_app:handle")).__name__ == "handle"
    assert load(Application(reference="sample_app:Inner.value")) == 7


def test_a_module_of_a_package_is_found(folder: Path) -> None:
    (folder / "sample_package").mkdir()
    (folder / "sample_package" / "app.py").write_text("handle = 'found'")
    assert load(Application(reference="sample_package.app:handle")) == "found"


@pytest.mark.parametrize("reference", ["", "app", ":handle", "app:", ":"])
def test_a_reference_needs_both_parts(reference: str) -> None:
    assert "is not of the form module:attribute" in refusal(reference)


def test_a_missing_module_is_named_with_advice(folder: Path) -> None:
    reason = refusal("no_such_module:handle")
    assert reason.startswith(
        f"cannot import 'no_such_module': there is no module 'no_such_module' on the path ({str(folder)!r}"
    )
    assert reason.endswith("start in its directory or give --chdir")
    assert "\n" not in reason


def test_a_missing_package_of_a_module_is_named(folder: Path) -> None:
    assert "there is no module 'no_such_package' on the path" in refusal("no_such_package.app:handle")


def test_a_missing_dependency_is_the_applications_and_its_place_is_shown(folder: Path) -> None:
    (folder / "sample_app.py").write_text("import os\nimport no_such_dependency\n")
    reason = refusal("sample_app:handle")
    assert reason.startswith("cannot import 'sample_app': ModuleNotFoundError: No module named 'no_such_dependency'\n")
    assert 'sample_app.py", line 2' in reason
    assert "importlib" not in reason


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def handle(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('enough')\n", "SystemExit: enough"),
        ("from os import no_such_name\n", "ImportError: cannot import name 'no_such_name'"),
    ],
)
def test_a_module_that_fails_shows_its_error_and_only_its_own_frames(folder: Path, code: str, said: str) -> None:
    (folder / "sample_app.py").write_text(code)
    reason = refusal("sample_app:handle")
    assert said in reason
    assert "sample_app.py" in reason
    assert "workers/boot/target.py" not in reason


def test_a_misspelt_attribute_is_answered_with_the_likely_one(folder: Path) -> None:
    (folder / "sample_app.py").write_text("def Handle(): ...\ndef other(): ...\nnumber = 7\n")
    assert refusal("sample_app:handle") == "'sample_app' has no attribute 'handle'; it has Handle"
    assert refusal("sample_app:missing") == "'sample_app' has no attribute 'missing'; it has Handle, other"


def test_an_attribute_of_an_attribute_may_be_missing(folder: Path) -> None:
    (folder / "sample_app.py").write_text("class Inner:\n    __slots__ = ()\ninner = Inner()\nnumber = 7\n")
    assert refusal("sample_app:number.handle").startswith("'sample_app' has no attribute 'handle'")
    assert refusal("sample_app:inner.handle").startswith("'sample_app' has no attribute 'handle'")


def test_an_attribute_that_fails_is_one_message_too(folder: Path) -> None:
    (folder / "sample_app.py").write_text("def __getattr__(name):\n    raise LookupError('lazy')\n")
    assert "LookupError: lazy" in refusal("sample_app:handle")


def test_a_callable_is_itself() -> None:
    assert load(Application(factory=refusal)) is refusal


def test_a_pickled_target_travels() -> None:
    import dill

    number = 3
    assert load(Application(pickled=dill.dumps(lambda: number + 4)))() == 7


def test_a_broken_pickle_is_one_message() -> None:
    with pytest.raises(
        BootError, match="the target cannot be copied into a worker; give it as 'module:attribute'"
    ) as raised:
        load(Application(pickled=b"garbage"))
    assert raised.value.code is Exit.TARGET


def test_an_application_has_a_name_for_messages() -> None:
    assert Application(reference="app:handle").name == "app:handle"
    assert Application(pickled=b"").name == "the target"
    assert Application(factory=refusal).name == "refusal"
    assert Application(factory=type(refusal)).name == "function"


# --- factories


def make(code: str, folder: Path, name: str = "create_app") -> object:
    (folder / "sample_app.py").write_text(code)
    return load(Application(reference=f"sample_app:{name}", call_factory=True))


def failure(code: str, folder: Path, name: str = "create_app") -> str:
    with pytest.raises(BootError) as raised:
        make(code, folder, name)
    assert raised.value.code is Exit.TARGET
    return raised.value.reason


@pytest.mark.parametrize(
    "code",
    [
        "def create_app(): return print",
        "def create_app(config=None, *args, **more): return print",
        "class create_app:\n    def __new__(cls): return print",
        "import functools\ncreate_app = functools.partial(lambda made: made, print)",
    ],
)
def test_a_factory_is_called_and_its_result_is_the_target(folder: Path, code: str) -> None:
    assert make(code, folder) is print


def test_without_being_asked_for_a_factory_is_not_called(folder: Path) -> None:
    (folder / "sample_app.py").write_text("def create_app(): raise LookupError")
    assert load(Application(reference="sample_app:create_app")).__name__ == "create_app"


def test_a_factory_may_be_a_callable_or_travel() -> None:
    import dill

    assert load(Application(factory=lambda: print, call_factory=True)) is print
    assert load(Application(pickled=dill.dumps(lambda: print), call_factory=True)) is print


@pytest.mark.parametrize(
    "code",
    [
        "async def create_app(): return print",
        "async def other(): return print\ndef create_app(): return other()",
    ],
)
def test_a_factory_that_must_be_awaited_is_refused(folder: Path, code: str) -> None:
    reason = failure(code, folder)
    assert reason.startswith("the application factory sample_app:create_app is async, and the loop does not run yet")
    assert "lifespan" in reason


def test_a_factory_that_needs_arguments_is_refused_as_the_application_it_may_be(folder: Path) -> None:
    reason = failure("def create_app(environ, start_response): ...", folder)
    assert reason == (
        "sample_app:create_app(environ, start_response) cannot be called without arguments, as --factory does; "
        "if it is the application itself, leave --factory out"
    )


def test_a_factory_that_fails_shows_its_error_and_where(folder: Path) -> None:
    reason = failure("def create_app():\n    raise SystemExit('no database')\n", folder)
    assert reason.startswith("the application factory sample_app:create_app failed: SystemExit: no database\n")
    assert 'sample_app.py", line 2, in create_app' in reason
    assert "workers/boot/target.py" not in reason


@pytest.mark.parametrize(("made", "what"), [("None", "None"), ("{}", "a dict"), ("7", "an int")])
def test_a_factory_must_return_a_callable(folder: Path, made: str, what: str) -> None:
    reason = failure(f"def create_app(): return {made}", folder)
    assert reason == f"the application factory sample_app:create_app returned {what}, which is not callable"


def test_a_factory_must_be_callable(folder: Path) -> None:
    assert failure("create_app = {}", folder) == (
        "sample_app:create_app is not an application factory but a dict: leave --factory out"
    )


def test_a_module_of_the_standard_library_is_named_as_such() -> None:
    expected = "'json' is a module of the standard library and has no attribute 'app'; name a module of your own"
    assert refusal("json:app") == expected


def test_a_file_that_the_standard_library_hides_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "json.py").write_text("def app(environ, start_response): ...")
    assert refusal("json:app").endswith("; it hides json.py: rename that file")
