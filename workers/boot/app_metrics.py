"""Has prometheus_client write the metrics of the application by seats, once the application imports it.

An application that does not import it pays nothing: all that stands there is a finder that waits for one name.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import json
import logging
import os
import sys
import types
from collections.abc import Sequence
from typing import Any, Final

from hybrid.workers.contract import metric_seat

_MODULE: Final = "prometheus_client.values"
_log = logging.getLogger("hybrid")


def follow() -> None:
    """Change the library when it is imported, or now if it is. May be called again."""
    imported = sys.modules.get(_MODULE)
    if imported is not None:
        use_seats(imported)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def use_seats(values: Any) -> None:
    """Have metrics that are made from now on written to the files of this process's seat.

    `values`: the module `prometheus_client.values`, since 0.20. A release without these names goes on by pids.
    """
    try:
        if issubclass(values.MmapedDict, _Whole):
            return
        # forks of a process with a seat have another name, and the library opens other files when the name changes
        values.MmapedDict = type("MmapedDict", (_Whole, values.MmapedDict), {})
        values.ValueClass = values.MultiProcessValue(metric_seat.holder)
    except (AttributeError, TypeError):
        _log.warning("this release of prometheus_client is not known: metrics of the application go by pids")


class _Whole:
    """Makes a file under another name first: a scraper must not read it before its header is written."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode and not os.path.exists(filename):  # noqa: PTH110 - as the library has it: a text
            self._make(filename)
        try:
            super().__init__(filename, read_mode)  # type: ignore[call-arg]  # of the library's class, which comes next
            for key, *_ in self.read_all_values():  # type: ignore[attr-defined]  # what the dead have written
                json.loads(key)
        except OSError:
            raise
        except Exception as error:  # any bytes may be in there
            if read_mode:
                raise
            _log.warning("%s is broken: its metrics begin anew (%r)", filename, error)
            os.unlink(filename)  # noqa: PTH108
            self._make(filename)
            super().__init__(filename)  # type: ignore[call-arg]

    def _make(self, filename: str) -> None:
        unready = f"{filename}.{os.getpid()}"  # not *.db, which is what scrapers read
        with contextlib.suppress(FileNotFoundError):  # of a process that was killed here, with the same pid
            os.unlink(unready)  # noqa: PTH108
        base: Any = type(self).__mro__[2]
        base(unready).close()
        try:
            with contextlib.suppress(FileExistsError):
                os.link(unready, filename)
        finally:
            os.unlink(unready)  # noqa: PTH108


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as the other finders do, and acts after its import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the module, and None for all others."""
        if fullname != _MODULE:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads the module by its own loader, then changes it."""

    def __init__(self, own: importlib.abc.Loader) -> None:
        self._own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """As the module's own loader."""
        return self._own.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """As the module's own loader, which is the loader again for all that ask later; then change the module."""
        module.__loader__ = self._own
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        self._own.exec_module(module)
        use_seats(module)
