"""A request and the answer that is right: no server is measured that answers another one."""

from __future__ import annotations

import dataclasses
import http.client
import ssl

from benchmarks import peers
from benchmarks.load import LoadFailed

_SECONDS = 30.0  # a server whose worker is still importing answers late
_SHOWN = 200  # bytes of a wrong answer in the message


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A request, and its right answer."""

    path: str
    answer: bytes
    """The body that has to come back, to the byte; empty: any."""
    status: int = 200
    method: str = "GET"
    kind: str = ""
    """Content-Type of `body`."""
    body: bytes = b""

    def check(self, port: int, *, secure: bool) -> None:
        """Ask once; raise `LoadFailed` unless the answer is the right one. Blocks, at most half a minute per read."""
        try:
            status, found = self._ask(_connection(port, secure=secure))
        except (OSError, http.client.HTTPException) as error:
            raise LoadFailed(f"{self.method} {self.path}: {error!r}") from error
        if status != self.status or (self.answer and found != self.answer):
            raise LoadFailed(f"{self.method} {self.path} was answered wrongly: {status} {found[:_SHOWN]!r}")

    def _ask(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        try:
            headers = {"Content-Type": self.kind} if self.kind else {}
            connection.request(self.method, self.path, self.body or None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _connection(port: int, *, secure: bool) -> http.client.HTTPConnection:
    if not secure:
        return http.client.HTTPConnection(peers.HOST, port, timeout=_SECONDS)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is our own, made a moment ago
    return http.client.HTTPSConnection(peers.HOST, port, timeout=_SECONDS, context=context)
