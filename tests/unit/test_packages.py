"""The table at the top of each package names what is in its folder, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from support.rows import for_each

ROOT = Path(__file__).resolve().parents[2]
OF_THE_PUBLIC = [f"hybrid/{name}" for name in ("autoreload", "checkup", "cli", "config", "init")]
PACKAGES = [
    *sorted(
        file.parent.relative_to(ROOT).as_posix()
        for side in (
            "supervisor",
            "workers",
            "hybrid/cli",
            "hybrid/config",
            "hybrid/autoreload",
            "hybrid/control",
            "hybrid/console",
            "hybrid/checkup",
            "hybrid/init",
        )
        for file in ROOT.glob(f"{side}/**/__init__.py")
    ),
]
LINE = re.compile(r"^ *(\w+/?)  +\S", re.MULTILINE)


@for_each("package", PACKAGES)
def test_the_table_of_a_package_names_each_module_once(package: str) -> None:
    folder = ROOT / package
    modules = [file.stem for file in folder.glob("*.py") if file.stem != "__init__"]
    packages = [f"{file.parent.name}/" for file in folder.glob("*/__init__.py")]
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()), clean=False) or ""
    assert sorted(LINE.findall(text)) == sorted(modules + packages)


def test_packages_are_found() -> None:
    assert {"supervisor", "workers/http", "workers/http/h1", "hybrid/config"} <= set(PACKAGES)
