"""The link from the demonstration's page to the dashboard of `--admin`. Pure.

The browser must be able to reach it: an address of this machine alone is shown to browsers on this machine, and for all
interfaces (`0.0.0.0`) the name by which the browser reached the page is used. A UNIX socket has no link.
"""

from __future__ import annotations

import re
from typing import Final

from hybrid.config.admin import is_private

_WILDCARDS: Final = frozenset(("0.0.0.0", "[::]"))
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", re.ASCII)


def has_link(admin: str) -> bool:
    """Return True if the dashboard at this address can be linked to: TCP, and a port that is known beforehand."""
    return not admin.startswith("unix:") and not admin.endswith(":0")


def dashboard_url(admin: str, host: str) -> str | None:
    """Return the URL of the dashboard for the browser that sent the header `Host`; None if it may not reach it.

    `admin`: the value of `--admin`, for which `has_link` is True.
    """
    there, _, port = admin.rpartition(":")
    asked = _HOST.fullmatch(host)
    if there in _WILDCARDS:
        return None if asked is None else f"http://{asked['name']}:{port}/"
    if is_private(admin) and (asked is None or not is_private(f"{asked['name']}:0")):
        return None
    return f"http://{there}:{port}/"
