"""Who may ask the admin process. Pure.

Without a token only this machine can connect, but so can a page in a browser here: a site may let its name point to
127.0.0.1 and read the answers as its own. So `Host` must name this machine then. With a token such a page knows no
secret, and any name will do. A change needs the `Origin` of the dashboard itself besides.
"""

from __future__ import annotations

import enum
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from hybrid.admin.settings import AdminSettings

COOKIE: Final = "hybrid_admin"
"""The cookie that holds the token."""
_LOCAL: Final = frozenset(("localhost", ""))


class Need(enum.Enum):
    """What a route asks of its clients."""

    NOTHING = "nothing"
    """A probe: it tells nothing but a state, and has no secret."""
    LOOK = "look"
    ACT = "act"


class Denial(enum.Enum):
    """Why a client may not."""

    HOST = "the name in the header Host is not one of this machine: use localhost, or set --admin-token"
    TOKEN = "a token is needed: Authorization: Bearer TOKEN, or log in at /"
    ORIGIN = "a change must come from the dashboard itself"
    ACTIONS = "changes are switched off: start hybrid with --admin-actions and --admin-token"


def denial(
    need: Need, settings: AdminSettings, headers: Mapping[str, str], cookies: Mapping[str, str]
) -> Denial | None:
    """Return why a request is refused; None if it is allowed."""
    if need is Need.NOTHING:
        return None
    if settings.token is None and not _is_local(headers.get("host", "")):
        return Denial.HOST
    if settings.token is not None and not _knows(settings.token, headers, cookies):
        return Denial.TOKEN
    if need is Need.ACT:
        if not settings.may_act:
            return Denial.ACTIONS
        if not _is_same_origin(headers):
            return Denial.ORIGIN
    return None


def is_token(given: str, settings: AdminSettings) -> bool:
    """Return True if it is the token; takes the same time for all wrong ones."""
    return settings.token is not None and hmac.compare_digest(_bytes(given), _bytes(settings.token))


def cookie_of(token: str) -> str:
    """Return what stands for the token in the cookie: any token makes a valid one, and the token itself stays here."""
    return hmac.digest(_bytes(token), b"hybrid admin", "sha256").hex()


def _knows(token: str, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    bearer = given.strip() if scheme.lower() == "bearer" else ""
    matches = (
        hmac.compare_digest(_bytes(bearer), _bytes(token)),
        hmac.compare_digest(_bytes(cookies.get(COOKIE, "")), _bytes(cookie_of(token))),
    )
    return any(matches)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may have any code point


def _is_local(host: str) -> bool:
    name = (urlsplit(f"//{host}").hostname or "").removesuffix(".") if _is_authority(host) else "?"
    return name in _LOCAL or name.endswith(".localhost") or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address.is_loopback if mapped is None else mapped.is_loopback


def _is_authority(host: str) -> bool:
    try:
        urlsplit(f"//{host}")
    except ValueError:
        return False
    return not any(character in host for character in "/?#@")


def _is_same_origin(headers: Mapping[str, str]) -> bool:
    """Return True unless a browser says that another site sends the request; programs send no Origin."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host", "")
    except ValueError:  # no URL
        return False
