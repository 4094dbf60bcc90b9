"""A program executed as the successor of a supervisor, without workers: its argument decides how it behaves.

serves   says that it serves, is given the sockets, says that it has taken them, and ends with its predecessor's word
fails    ends at once
hangs    says nothing; ends when it is told that it is not wanted
deaf     says nothing and hears nothing; a signal ends it
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

from hybrid.supervisor.upgrade.invocation import HANDOVER_VARIABLE
from hybrid.supervisor.upgrade.wire import PeerLink, Serving, Taken, WireError, Yours


def hear(link: PeerLink) -> object:
    """Wait for a message."""
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    while True:
        poll.poll()
        heard = link.receive_nowait()
        if heard is not None:
            return heard[0]


def main() -> None:
    estate = json.loads(os.pread(int(os.environ[HANDOVER_VARIABLE]), 1 << 20, 0))
    link = PeerLink(socket.socket(fileno=estate["line"]))
    match sys.argv[1]:
        case "serves":
            link.send(Serving(tuple(range(len(estate["entries"])))))
            assert hear(link) == Yours()
            link.send(Taken())
        case "fails":
            sys.exit(3)
        case "deaf":
            signal.pause()
    try:
        hear(link)
    except WireError:
        return


if __name__ == "__main__":
    main()
