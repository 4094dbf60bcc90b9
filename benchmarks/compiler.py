"""Builds the C programs of `native/` with gcc when their source has changed; they are kept in `benchmarks/.build`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_HERE = Path(__file__).parent
_SOURCES = _HERE / "native"
BUILD = _HERE / ".build"
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class ToolMissing(RuntimeError):  # noqa: N818 - an event, named as the standard library does it
    """A program that the benchmarks need is not on this machine; the text names its package."""


def program(name: str) -> Path:
    """Return the path of the compiled `native/NAME.c`; compiles it if need be (blocks about a second).

    Raises `ToolMissing`, and `subprocess.CalledProcessError` with the compiler's words when the source is wrong.
    """
    source = _SOURCES / f"{name}.c"
    built = BUILD / f"{name}-{_digest(source)}"
    if not built.exists():
        _compile(source, built)
    return built


def _digest(source: Path) -> str:
    """A name for this source, the headers and the flags: another one means another program."""
    parts = [source, *sorted(_SOURCES.glob("*.h"))]
    content = b"\0".join([part.read_bytes() for part in parts] + [" ".join(_FLAGS).encode()])
    return hashlib.sha256(content).hexdigest()[:16]


def _compile(source: Path, built: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ToolMissing("the load generator is a C program: install gcc (Debian: apt install gcc libc6-dev)")
    BUILD.mkdir(exist_ok=True)
    fresh = built.with_name(f"{built.name}.{os.getpid()}")  # two that compile at once never see each other's half
    command = [compiler, *_FLAGS, "-o", str(fresh), str(source)]
    subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
    fresh.rename(built)
