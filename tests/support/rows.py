"""A table whose rows are checked within one test: a test of its own costs some milliseconds, most checks far less.

Use `pytest.mark.parametrize` where a row needs a fixture of its own, or a loop, or some time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

SHOWN = 10  # rows of which the report has the traceback


def for_each(
    names: str | Sequence[str], rows: Iterable[Any], *, ids: Callable[[Any], object] = repr
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make one test of a function that checks a row; `names` and `rows` are those of `parametrize`, `ids` names a row.

    It checks all rows, even if some fail, and names those. Its other arguments are fixtures and parameters that all
    rows share. Raises `TypeError` if the function does not take the values of a row.
    """
    table = list(rows)
    words = (names,) if isinstance(names, str) else tuple(names)

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(check)
        if missing := set(words) - signature.parameters.keys():
            raise TypeError(f"{check.__name__} does not take {missing}")

        def test(**shared: Any) -> None:
            assert table, "the table has no row"
            failed: list[Exception] = []
            for row in table:
                values = (row,) if isinstance(names, str) else row
                try:
                    check(**dict(zip(words, values, strict=True)), **shared)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it is raised with those of all rows
                    failed.append(_named(error, str(ids(row))))
            if failed:
                raise ExceptionGroup(f"{len(failed)} of {len(table)} rows", failed[:SHOWN])

        test.__name__, test.__qualname__ = check.__name__, check.__qualname__
        test.__module__, test.__doc__ = check.__module__, check.__doc__
        rest = [one for name, one in signature.parameters.items() if name not in words]
        test.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]  # what pytest looks at
        return test

    return decorate


def _named(error: BaseException, row: str) -> Exception:
    named = AssertionError(f"row {row[:200]}: {error}")
    named.__cause__ = error
    return named
