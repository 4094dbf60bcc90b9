"""TLS handshakes in memory: both ends in this process, no socket, no waiting."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl


@dataclasses.dataclass(frozen=True)
class Shaken:
    """The two ends of a connection after the handshake."""

    server: ssl.SSLObject
    client: ssl.SSLObject


class RefusedError(Exception):
    """The handshake failed; texts of `ssl`, None for an end that did not notice."""

    def __init__(self, server: str | None, client: str | None) -> None:
        super().__init__(server, client)
        self.server = server
        self.client = client


def shake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> Shaken:
    """Return both ends after a handshake with the host `name`. Raises `RefusedError`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    failed: dict[ssl.SSLObject, str] = {}
    for end in (asking, answering) * 4:  # one turn more than TLS 1.2 takes, for an alert
        if end in failed:
            continue
        try:
            end.do_handshake()
            if end is asking:
                asking.read(1)  # takes in session tickets, and the alert that follows a handshake of TLS 1.3
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            failed[end] = str(error)
    if failed:
        raise RefusedError(failed.get(answering), failed.get(asking))
    return Shaken(answering, asking)


def client_hello(version: int) -> bytes:
    """Return the first record of a client that speaks at most `version`, e.g. 0x0302 for TLS 1.1.

    Made by hand (RFC 4346, section 7.4.1.2), for an OpenSSL of today may refuse to speak it.
    """
    suites = bytes.fromhex("c009c013c00ac014002f0035")
    body = version.to_bytes(2) + bytes(32) + b"\x00" + len(suites).to_bytes(2) + suites + b"\x01\x00"
    hello = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(hello).to_bytes(2) + hello


def answer_to_client_hello(server: ssl.SSLContext, version: int) -> bytes:
    """Return the server's response to `client_hello(version)`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    to_server.write(client_hello(version))
    with contextlib.suppress(ssl.SSLError):
        server.wrap_bio(to_server, to_client, server_side=True).do_handshake()
    return to_client.read()
