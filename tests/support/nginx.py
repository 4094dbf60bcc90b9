"""A real nginx in front of a service: the configuration of docs/nginx.md, or any other, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.process import DEADLINE

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs/nginx.md"
_BLOCK = re.compile(r"^```nginx\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(r"upstream myapp \{\n    server [^;]+;")
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_FRAME = """
{user}
error_log stderr info;
pid {home}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    {temporary}
    {site}
}}
"""


def documented(upstream: str) -> str:
    """Return the configuration of the document for `upstream`, `HOST:PORT` or `unix:PATH`; `listen 80` is left."""
    site, on_unix = _BLOCK.findall(_DOCUMENT.read_text(encoding="utf-8"))
    if upstream.startswith("unix:"):
        begin, end = site.index("upstream"), site.index("map")
        site = site[:begin] + on_unix + "\n" + site[end:]
    changed, count = _SERVER.subn(f"upstream myapp {{\n    server {upstream};", site)
    assert count == 1, "the document's upstream block has another form"
    return changed


@contextlib.contextmanager
def proxied(site: str, home: Path) -> Iterator[tuple[str, int]]:
    """Run nginx with `site`, the content of its http block; give the address that stands for `listen 80`.

    The listening socket is made here and inherited (the variable NGINX), so that no port is taken by another process
    in between, and clients can connect at once. (With `master_process off` nginx 1.22 crashes over such a socket.)
    """
    assert NGINX is not None
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
        listener.set_inheritable(True)
        assert site.count("listen 80;") == 1
        text = _FRAME.format(
            home=home,
            user="user root;" if os.geteuid() == 0 else "",  # its default account cannot look into `home`
            temporary=" ".join(f"{kind}_temp_path {home}/{kind};" for kind in _KINDS),
            site=site.replace("listen 80;", f"listen 127.0.0.1:{address[1]};"),
        )
        (home / "nginx.conf").write_text(text, encoding="utf-8")
        with (home / "errors.log").open("wb") as errors:
            process = subprocess.Popen(
                [NGINX, "-p", str(home), "-c", str(home / "nginx.conf"), "-g", "daemon off;"],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
    try:
        yield address
        assert process.poll() is None, (home / "errors.log").read_text()
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
