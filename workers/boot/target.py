"""From `module:attribute` to the object itself; any failure on the way becomes one readable message."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid.workers.boot.application import Application, Companion
from hybrid.workers.common.errors import BootError
from hybrid.workers.common.failures import in_words
from hybrid.workers.contract.exits import Exit

_ASYNC_FACTORY = (
    "the application factory {} is async, and the loop does not run yet when it is called: make it a plain function, "
    "and await in the application's lifespan instead"
)


def load(application: Application) -> Any:
    """Return the target of `application`: import its module and, with `call_factory`, call it as a factory.

    Runs code of the application. Raises `BootError` (TARGET) with the cause and, for an error in the application's
    code, its location.
    """
    found = _find(application)
    return _make(found, application.name) if application.call_factory else found


def load_function(companion: Companion) -> Callable[[], Any]:
    """Return the function of a companion. Runs code of the application. Raises `BootError` (TARGET)."""
    found = _find(companion)
    what = f"companion {companion.called}: {companion.name}"
    if not callable(found):
        raise BootError(Exit.TARGET, f"{what} is {_article(found)}, which is not callable: give a function")
    try:
        inspect.signature(found).bind()
    except ValueError:  # some C callables have no signature
        pass
    except TypeError:
        parameters = ", ".join(inspect.signature(found).parameters)
        text = f"{what}({parameters}) cannot be called without arguments: give a function without parameters"
        raise BootError(Exit.TARGET, text) from None
    return found  # type: ignore[no-any-return]


def _find(application: Application | Companion) -> Any:
    if application.factory is not None:
        return application.factory
    if application.pickled is not None:
        return _unpickle(application.pickled, application)
    return _import(application.reference or "")


def _make(factory: Any, name: str) -> Any:
    """Call an application factory and return the application. The loop does not run yet, so it cannot be awaited."""
    if not callable(factory):
        raise BootError(
            Exit.TARGET, f"{name} is not an application factory but {_article(factory)}: leave --factory out"
        )
    if inspect.iscoroutinefunction(factory):
        raise BootError(Exit.TARGET, _ASYNC_FACTORY.format(name))
    _check_takes_nothing(factory, name)
    try:
        made = factory()
    except BaseException as error:  # noqa: BLE001 - any code may run, and raise SystemExit or similar
        raise BootError(Exit.TARGET, in_words(f"the application factory {name} failed", error)) from None
    if inspect.isawaitable(made):
        if inspect.iscoroutine(made):
            made.close()  # otherwise Python warns that it was never awaited
        raise BootError(Exit.TARGET, _ASYNC_FACTORY.format(name))
    if not callable(made):
        raise BootError(Exit.TARGET, f"the application factory {name} returned {_article(made)}, which is not callable")
    return made


def _check_takes_nothing(factory: Any, name: str) -> None:
    try:
        signature = inspect.signature(factory)
    except (ValueError, TypeError):  # some C callables have no signature
        return
    try:
        signature.bind()
    except TypeError:
        raise BootError(
            Exit.TARGET,
            f"{name}({', '.join(signature.parameters)}) cannot be called without arguments, as --factory does; "
            "if it is the application itself, leave --factory out",
        ) from None


def _import(reference: str) -> Any:
    module_name, _, path = reference.partition(":")
    if not module_name or not path:
        raise BootError(Exit.TARGET, f"target {reference!r} is not of the form module:attribute, e.g. mymodule:handle")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise BootError(Exit.TARGET, _no_module(module_name, error.name)) from None
        raise BootError(Exit.TARGET, in_words(f"cannot import {module_name!r}", error)) from None
    except BaseException as error:  # noqa: BLE001 - any code may run at import, and raise SystemExit or similar
        raise BootError(Exit.TARGET, in_words(f"cannot import {module_name!r}", error)) from None
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise BootError(Exit.TARGET, _no_attribute(module_name, found, name)) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a property or a module's __getattr__ of the application
            raise BootError(Exit.TARGET, in_words(f"cannot import {reference!r}", error)) from None
    return found


def _unpickle(data: bytes, application: Application | Companion) -> Any:
    """Return the unpickled object; if that fails and a module has it as a variable, import it."""
    import dill  # a dependency of multiprocess; only embedders' workers need it

    try:
        return dill.loads(data)
    except Exception as error:  # noqa: BLE001 - unpickling runs code of the application
        if application.reference is not None:
            return _import(application.reference)
        what = f"{application.name} cannot be copied into a worker; give it as 'module:attribute'"
        raise BootError(Exit.TARGET, in_words(what, error)) from None


def _no_module(module_name: str, missing: str) -> str:
    text = f"cannot import {module_name!r}: there is no module {missing!r} on the path ({_where()})"
    return f"{text}; start in its directory or give --chdir"


def _where() -> str:
    return ", ".join(repr(entry or ".") for entry in sys.path[:2]) + ", ..."


def _no_attribute(module_name: str, owner: Any, name: str) -> str:
    if module_name.partition(".")[0] in sys.stdlib_module_names and inspect.ismodule(owner):
        return _standard(module_name, name)
    close = [item for item in dir(owner) if item.lower() == name.lower() or item.startswith(name)]
    public = close or [
        item for item, value in getattr(owner, "__dict__", {}).items() if callable(value) and not item.startswith("_")
    ]
    hint = f"; it has {', '.join(public[:6])}" if public else ""
    return f"{module_name!r} has no attribute {name!r}{hint}"


def _standard(module_name: str, name: str) -> str:
    """Return the message for a target in the standard library, which usually hides a file of the application."""
    text = f"{module_name!r} is a module of the standard library and has no attribute {name!r}"
    own = Path(module_name.partition(".")[0])
    files = [str(path) for path in (own.with_suffix(".py"), own / "__init__.py") if path.is_file()]
    return f"{text}; it hides {files[0]}: rename that file" if files else f"{text}; name a module of your own"


def _article(value: Any) -> str:
    """Return the type of a value with its article: `a dict`, `an int`, `None`."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
