"""A target whose import closes the listening sockets, as programs do that close all descriptors they do not know."""

from __future__ import annotations

import breaking

breaking.close()


def handle(sock: object, address: object) -> None:
    raise AssertionError("no connection can come here")
