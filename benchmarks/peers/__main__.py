"""``python -m benchmarks.peers NAME [TARGET]``: run one peer until it is killed. Imports only what that peer needs."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.peers.life import end_with_parent


def _gevent_stream() -> None:
    from benchmarks.peers.gevent_stream import serve

    serve()


def _asyncio_streams() -> None:
    import asyncio

    from benchmarks.peers.asyncio_streams import serve

    asyncio.run(serve())


def _asyncio_protocol() -> None:
    import asyncio

    from benchmarks.peers.asyncio_protocol import serve

    asyncio.run(serve())


def _uvloop_streams() -> None:
    import uvloop

    from benchmarks.peers.asyncio_streams import serve

    uvloop.run(serve())


def _uvloop_protocol() -> None:
    import uvloop

    from benchmarks.peers.asyncio_protocol import serve

    uvloop.run(serve())


def _bjoern(target: str) -> None:
    from benchmarks.peers.bjoern_wsgi import serve

    serve(target)


PEERS: dict[str, Callable[[], None]] = {  # name on the command line -> what never returns
    "gevent-stream": _gevent_stream,
    "asyncio-streams": _asyncio_streams,
    "asyncio-protocol": _asyncio_protocol,
    "uvloop-streams": _uvloop_streams,
    "uvloop-protocol": _uvloop_protocol,
}
PEERS_WITH_TARGET: dict[str, Callable[[str], None]] = {"bjoern": _bjoern}  # the same for those that serve `module:attr`


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name in PEERS:
        commands.add_parser(name)
    for name in PEERS_WITH_TARGET:
        commands.add_parser(name).add_argument("target", help="module:attribute of the application")
    given = parser.parse_args()
    end_with_parent()
    if given.name in PEERS:
        PEERS[given.name]()
    else:
        PEERS_WITH_TARGET[given.name](given.target)
