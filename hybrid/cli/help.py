"""The texts of `hybrid --help` and `hybrid run --help`. A line with \\b keeps the formatting of the lines below it."""

from __future__ import annotations

COMMAND = """
Run a Python web application or coroutine server on every core: one supervised worker per core, on the event loop of
your choice.

\b
  hybrid run                      serve the built-in demonstration
  hybrid run myapp:app            serve your application: WSGI, ASGI, or a connection handler
  hybrid run --help               all options, signals and exit codes
  hybrid config                   the values in force and their origin
  hybrid loops                    the event loops to choose from
"""

CONFIG = """
Show every value that hybrid run would use, and its origin.

Takes the same options as hybrid run. A flag overrides an environment variable, which overrides the file, which
overrides the default. In the file, [profile.NAME] overrides [service.NAME], which overrides the top level.
"""

RUN = """
Serve TARGET on every core until stopped.

TARGET is module:attribute; the working directory is searched first. It is a WSGI or ASGI application (Flask, Django,
Starlette, FastAPI and the like), a connection handler, sync as for gevent.server.StreamServer or async as for
asyncio.start_server, a factory of asyncio.Protocol, or a datagram handler.

A file can set the options, hybrid.toml, and name targets: [service.NAME] with target = "module:attribute". Then
hybrid run NAME serves that service; the name may be left out if there is only one. Without TARGET and without a
service in a file, a demonstration is served.

A supervisor process owns the listening sockets and forks the workers; each runs one event loop. A worker that dies is
replaced, and its successor serves the connections waiting in its queue.

\b
Examples:
  hybrid run
  hybrid run --bind 0.0.0.0:8000 --workers 4 --loop uvloop myapp:app
  hybrid run --factory --access-log --forwarded-allow-ips 10.0.0.0/8 shop:create_app
  hybrid run --bind 0.0.0.0:443 --certfile cert.pem --keyfile key.pem --user nobody myapp:app
  hybrid run --bind unix:/run/echo.sock --unix-mode 660 --user nobody echo:handle
  hybrid run --bind udp://0.0.0.0:5353 --interface datagram names:answer
  hybrid run --check myapp:app
"""

RUN_AFTERWORD = """
SECONDS may carry a unit: 30, 500ms, 2m, 1h; BYTES as well: 8190, 64K, 16M, 1G. Under Limits, 0 is no limit. The options
under HTTP, Limits (all but --max-connections), TLS and Proxies, and --access-log, are for WSGI and ASGI applications.
An option on the command line overrides its environment variable.

\b
Signals to the supervisor:
  TERM, first INT     stop: let the workers finish their connections
  QUIT, second INT    stop at once
  TTIN, TTOU          add a worker, remove a worker
  HUP                 reload: load new code, one worker after the other
  USR2                upgrade: start this program again on the same sockets

\b
Exit codes:
  0  stopped as asked, everything drained
  1  any other error
  2  the command line is wrong
  3  TARGET cannot be imported, found or recognised
  4  an address cannot be bound
  5  the event loop is not usable here
  6  workers kept dying or hanging before any was ready
  7  a process had to be killed at the stop
  9  more workers died than --max-restarts allows
"""
