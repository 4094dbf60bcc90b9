"""A real browser: Debian's chromium, driven by playwright. Without one of them these tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Run a browser."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[browser]'")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on the PATH")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of axe-core, which judges whether a page can be used by all."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm, which installs axe-core")
    directory = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory), "axe-core@4"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    except subprocess.TimeoutExpired:
        pytest.skip("npm has not installed axe-core within a minute")
    script = Path(directory, "node_modules/axe-core/axe.min.js")
    if not script.exists():
        pytest.skip(f"npm has not installed axe-core: {done.stderr.strip()[-200:]}")
    return script.read_text()
