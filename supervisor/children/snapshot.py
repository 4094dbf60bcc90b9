"""The code of this package as it was when the supervisor started; its children import from here, not from the disk.

A supervisor runs for months. If an installer replaces the package meanwhile, a worker must not get a mix of versions:
the modules that its supervisor has imported, and newer ones beside them. No module is executed here.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import marshal
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, ModuleType

from hybrid.workers.contract.records import record

_PACKAGE = __name__.partition(".")[0]
_HEADER = 16  # bytes before the code in a .pyc file (PEP 552)


@record(frozen=True, slots=True)
class _Module:
    """The code of one module. It is its loader, too (`importlib.abc.InspectLoader` names the methods)."""

    file: str
    is_package: bool
    content: bytes
    """The content of its .pyc file after the header; its source if there is no matching .pyc file."""
    is_source: bool

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Let the import system create the module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the code in `module`."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """Return the code."""
        if self.is_source:
            return compile(self.content, self.file, "exec", dont_inherit=True)
        code: CodeType = marshal.loads(self.content)
        return code


class Snapshot:
    """A finder of `sys.meta_path` for modules of this package."""

    def __init__(self, modules: Mapping[str, _Module]) -> None:
        self._modules = modules  # by full name

    @classmethod
    def take(cls) -> Snapshot:
        """Read the modules that this process has not imported yet. Blocks for some milliseconds.

        A package that is not in folders (a zip file) is left to the import system.
        """
        found: dict[str, _Module] = {}
        for name, module in list(sys.modules.items()):  # an editable installation has several of them
            if (name == _PACKAGE or name.startswith(f"{_PACKAGE}.")) and hasattr(module, "__path__"):
                found.update(_modules(name, module.__path__))
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module; None if the module did not exist at the start."""
        found = self._modules.get(name)
        if found is None:
            return None
        folders = [os.path.dirname(found.file)] if found.is_package else None  # noqa: PTH120 - text in, text out
        return importlib.util.spec_from_file_location(
            name,
            found.file,
            loader=found,  # type: ignore[arg-type]  # it has the methods that the import system calls
            submodule_search_locations=folders,
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Make this the first finder of the import system, in this process and its forks."""
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # removed by other code
                sys.meta_path.remove(self)


def _modules(package: str, folders: Sequence[str]) -> Iterator[tuple[str, _Module]]:
    """Yield the modules of a package with their names, except imported ones."""
    for folder in folders:
        beside = _compiled_beside(folder)
        for stem, file, is_package in _files(folder):
            name = f"{package}.{stem}"
            if name in sys.modules:
                continue
            if is_package:
                inside = os.path.dirname(file)  # noqa: PTH120 - text in, text out
                module = _read(file, _compiled_beside(inside), "__init__", is_package=True)
            else:
                module = _read(file, beside, stem, is_package=False)
            if module is not None:
                yield name, module
            if is_package:
                yield from _modules(name, [inside])


def _files(folder: str) -> Iterator[tuple[str, str, bool]]:
    """Yield name and source file of each module in a folder, and True if it is a package."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # no folder, or an unreadable one: imports fail as they would without this
        return
    for entry in entries:
        if entry.name.endswith(".py") and entry.name != "__init__.py":
            yield entry.name.removesuffix(".py"), entry.path, False
        elif entry.name.isidentifier() and os.path.isfile(init := os.path.join(entry.path, "__init__.py")):  # noqa: PTH113, PTH118
            yield entry.name, init, True


def _compiled_beside(folder: str) -> tuple[str, str] | None:
    """Return what the names of .pyc files of a folder have before and behind the module's; None: there are none.

    Python is asked once for each folder: for each of 140 modules that took a sixth of the time of a snapshot.
    """
    try:
        before, _, behind = importlib.util.cache_from_source(f"{folder}/_.py").rpartition("_.")
    except NotImplementedError:  # this Python writes no .pyc files
        return None
    return before, behind


def _read(file: str, beside: tuple[str, str] | None, stem: str, *, is_package: bool) -> _Module | None:
    try:
        code = None if beside is None else _cached_code(f"{beside[0]}{stem}.{beside[1]}", file)
        content = _content(file) if code is None else code
    except OSError:  # imports of it fail as they would without this
        return None
    return _Module(file, is_package, content, is_source=code is None)


def _cached_code(compiled: str, file: str) -> bytes | None:
    """Return the code in the .pyc file if it matches the source.

    Only for files that are checked by time and size, the default of Python and of installers.
    """
    try:
        data = _content(compiled)
    except OSError:  # no such file
        return None
    source = os.stat(file)  # noqa: PTH116
    stamp, size = int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF
    header = importlib.util.MAGIC_NUMBER + bytes(4) + stamp.to_bytes(4, "little") + size.to_bytes(4, "little")
    return data[_HEADER:] if data.startswith(header) else None


def _content(file: str) -> bytes:
    with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 - a hundred small files at each start
        return opened.readall()
