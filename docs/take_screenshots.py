"""Takes the pictures of the dashboard: `python docs/take_screenshots.py` (needs playwright, and chromium on the PATH).

Runs a shop with three services, one of them under some load with a worker that stalls, and writes
docs/pictures/dashboard-light.png and dashboard-dark.png. With `--all DIRECTORY` also narrower pictures, the page of a
worker and the login, to look at.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).with_name("pictures")
TOKEN = "a-token-for-pictures"
CLIENTS = 6
CONFIGURATION = """
admin = "127.0.0.1:0"
admin_actions = true
stall_report = 1.0
[service.web]
target = "shop:app"
bind = "127.0.0.1:0"
workers = 3
[service.chat]
target = "shop:chat"
bind = "127.0.0.1:0"
loop = "uvloop"
workers = 2
depends = ["web"]
[service.mail]
command = ["sleep", "100000"]
"""
SHOP = """
import asyncio, random, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/recompute":
        recompute(float(scope["query_string"]))
    elif random.random() < 0.1:
        await asyncio.sleep(random.random() * 0.03)
    else:
        sum(range(random.randrange(40_000)))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

def recompute(seconds):
    time.sleep(seconds)

async def chat(reader, writer):
    while data := await reader.readline():
        writer.write(data)
    writer.close()
"""


@contextlib.contextmanager
def shop() -> Iterator[tuple[str, str]]:
    """Run the shop; give the addresses of the dashboard and of its service web."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name, "shop")
        directory.mkdir()
        (directory / "hybrid.toml").write_text(CONFIGURATION)
        (directory / "shop.py").write_text(SHOP)
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "hybrid", "run", "--control", "off"],
                cwd=directory,
                stderr=output,
                env={**os.environ, "HYBRID_ADMIN_TOKEN": TOKEN},
            )
        try:
            admin = _wait_for(log, r"admin pid=\d+ reachable at http://(127\.0\.0\.1:\d+)")
            web = _wait_for(log, r"web pid=\d+ reachable at http://(127\.0\.0\.1:\d+)")
            yield admin, web
        finally:
            process.terminate()
            process.wait()


def _wait_for(log: Path, pattern: str) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise SystemExit(f"the shop has not started:\n{log.read_text()}")


def load(address: str, stop: threading.Event) -> None:
    """Send requests, now more of them and now fewer."""
    connection = http.client.HTTPConnection(address, timeout=60)
    while not stop.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            connection.getresponse().read()
        stop.wait(0.008 * (1.3 + math.sin(time.monotonic() / 9)))
    connection.close()


def stall(address: str, seconds: float) -> None:
    """Send a request that holds a loop up."""
    connection = http.client.HTTPConnection(address, timeout=60)
    with contextlib.suppress(OSError), contextlib.closing(connection):
        connection.request("GET", f"/recompute?{seconds}")
        connection.getresponse().read()


def take(browser: Any, url: str, everything: Path | None) -> None:
    """Take the pictures, while a worker is stalled."""
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1440, "height": 960})
        page = context.new_page()
        page.goto(url)
        if everything:
            page.screenshot(path=everything / f"login-{scheme}.png")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        page.get_by_text("recompute").first.wait_for()
        page.wait_for_timeout(2500)
        page.screenshot(path=PICTURES / f"dashboard-{scheme}.png", full_page=False)
        if everything:
            _take_others(page, everything, scheme)
        context.close()


def _take_others(page: Any, directory: Path, scheme: str) -> None:
    for width in (1440, 900, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=directory / f"{width}-{scheme}.png", full_page=True)
    stalled = page.locator("tr[data-state=stalled] a").first
    if stalled.count():
        stalled.click()
        page.locator(".stack").first.wait_for()
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.screenshot(path=directory / f"worker-{width}-{scheme}.png", full_page=True)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="DIRECTORY", help="write further pictures there")
    parser.add_argument("--seconds", type=float, default=100, help="how long the load lasts before the pictures")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    stop = threading.Event()
    with shop() as (admin, web):
        clients = [threading.Thread(target=load, args=(web, stop)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            time.sleep(arguments.seconds / 2)
            stall(web, 1.4)
            time.sleep(arguments.seconds / 2)
            threading.Thread(target=stall, args=(web, 30), daemon=True).start()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                take(browser, f"http://{admin}/", arguments.all)
                browser.close()
        finally:
            stop.set()
            for client in clients:
                client.join()


if __name__ == "__main__":
    main()
