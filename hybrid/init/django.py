"""The Django project of a `manage.py`: its settings name the module of the application. Runs no code."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from hybrid.init.candidates import UnreadableError, parse

_VARIABLE: Final = "DJANGO_SETTINGS_MODULE"
_NAMED: Final = (("ASGI_APPLICATION", "asgi"), ("WSGI_APPLICATION", "wsgi"))  # the first that is set is served


def target_of(manage: Path) -> str | None:
    """Return the target of the project, e.g. `shop.wsgi:application`; None if it cannot be told.

    If the settings name none, it is that of the `wsgi.py` beside them.
    """
    settings = _settings(manage)
    if settings is None:
        return None
    named = _strings(manage.parent, settings)
    for variable, _ in _NAMED:
        module, _, attribute = named.get(variable, "").rpartition(".")
        if module:
            return f"{module}:{attribute}"
    package = settings.partition(".")[0]
    for name in ("wsgi", "asgi"):
        if (manage.parent / package / f"{name}.py").is_file():
            return f"{package}.{name}:application"
    return None


def _settings(manage: Path) -> str | None:
    """Return the settings module that a `manage.py` sets; None if it sets none."""
    tree = _tree(manage)
    for node in ast.walk(tree) if tree is not None else ():
        match node:
            case ast.Call(args=[ast.Constant(value=name), ast.Constant(value=str(module))]) if name == _VARIABLE:
                return module
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value=name))], value=ast.Constant(value=str(module))
            ) if name == _VARIABLE:
                return module
    return None


def _strings(directory: Path, settings: str) -> dict[str, str]:
    """Return the texts that the settings assign; of a package, those of all its modules."""
    base = directory.joinpath(*settings.split("."))
    files = [base.with_suffix(".py")]
    for package in (base, base.parent):  # shop/settings/__init__.py; shop/settings/production.py beside base.py
        if package.name == "settings" and package.is_dir():
            files += sorted(package.glob("*.py"))
    found: dict[str, str] = {}
    for file in files:
        tree = _tree(file)
        for node in tree.body if tree is not None else ():
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                    found.setdefault(name, value)
    return found


def _tree(file: Path) -> ast.Module | None:
    try:
        return parse(file.read_bytes()) if file.is_file() else None
    except (OSError, UnreadableError):
        return None
