"""The texts of `hybrid --help` and `hybrid run --help`. A line with \\b keeps the formatting of the lines below it."""

from __future__ import annotations

COMMAND = """
Run a Python web application or coroutine server on every core: one supervised worker per core, on the event loop of
your choice.

\b
  hybrid run                      serve the services of hybrid.toml; without it, a demonstration
  hybrid run myapp:app            serve your application: WSGI, ASGI, or a connection handler
  hybrid run --help               all options, signals and exit codes
  hybrid init                     write a hybrid.toml for the application found here
  hybrid check                    what a start needs: target, addresses, certificates, limits
  hybrid config                   the values in force and their origin
  hybrid loops                    the event loops to choose from

\b
For a service that runs:
  hybrid ps                       the supervisors that run here
  hybrid status, hybrid top       its workers: a table, a live table
  hybrid reload                   load new code, one worker after the other
  hybrid scale 6                  change the number of workers
  hybrid restart web/3            replace one worker
  hybrid upgrade                  replace the program itself
  hybrid stop                     let the workers finish their connections, and end
  hybrid stacks web/3             where a worker is just now
  hybrid events --follow          deaths, reloads and stalls, as JSON lines
  hybrid loglevel debug           log more, for a while
"""

CONFIG = """
Show every value that hybrid run would use, and its origin.

Takes the same options as hybrid run. A flag overrides an environment variable, which overrides the file, which
overrides the default. In the file, [profile.NAME] overrides [service.NAME], which overrides the top level.
"""

PS = """
List the supervisors that run here.

Supervisors that refuse this account are left out, and those with --control PATH or --control off, which cannot be
found: name their socket with --control in the other commands.
"""

STATUS = """
Show a supervisor and its workers.

A narrow terminal drops columns, in this order: RESTARTS, UP, PID, IN-FLIGHT, LAG p99, CONNS, QUEUE, RSS, REQ/S, BUSY.
Times of the day are those of the supervisor's clock. With --blockers: the lines of the application in which loops have
stood still longer than --stall-report, the most frequent first. With --labels: what the requests of each label have
cost, with its share of the service, the label that holds the loop longest first; hybrid run --accounting counts that.
"""

TOP = """
Show a live table of the workers.

b, r, m, c and s sort by busy, requests per second, memory, connections and slot; the arrows select a worker, Enter
shows its stacks, q quits. If the output is no terminal, the status is written every second.
"""

RELOAD = """
Load new code, one worker after the other.

Without SERVICE all services are reloaded. Exit code 0: complete; 1: it failed, and the old code continues; 124: not
complete in time.
"""

SCALE = """
Change the number of workers of a service.

N is a number of workers, +N adds workers, -N removes some, which drain first. Without SERVICE: of the first service.
"""

RESTART = """
Replace one worker; its successor serves first.

To replace all workers: hybrid reload.
"""

STOP = """
Stop a service, or the supervisor with all services.

The workers finish their requests and connections, as with the signal TERM.
"""

UPGRADE = """
Start this program again on the same sockets.

As with the signal USR2. The new supervisor takes over once it serves. Exit code 1: it did not, and the old one
continues.
"""

STACKS = """
Show the threads, greenlets, tasks and requests of workers.

A worker whose loop does not turn is asked by a signal, and shows its threads only.
"""

METRICS = """
Print the metrics of a supervisor, in OpenMetrics.

The same as at /metrics of --admin, which need not run: for a cron job, a text file collector, or a look.
"""

EVENTS = """
Show what happened lately: one JSON object per line.

Deaths, reloads, stalls with their line, scaling, warnings and errors of the log.
"""

LOGLEVEL = """
Change the level of the log while the service runs.
"""

CHECK = """
Check everything that a start needs, without starting anything.

Takes the same arguments as hybrid run. Without TARGET or SERVICE, all services of the file are checked. Each line has a
level, what was checked, and the reason; for a problem also what to type:

\b
  ok       this is fine
  note     worth knowing; nothing is wrong
  warning  the service would start, and meet this later
  error    the service would not start, or its clients would be refused

Checked are: options and file; the account; the loop; the target, which is loaded in a child process; addresses, which
are bound and released at once; certificates and the days they last; the pidfile; env files; the limits of descriptors
and of the kernel's queues; workers against cores and memory of the machine or its cgroup; the time for a stop. Limits
that cannot be seen from here, such as TimeoutStopSec of systemd, are not.

\b
Examples:
  hybrid check
  hybrid check web --json
  hybrid check --bind 0.0.0.0:443 --certfile cert.pem --keyfile key.pem myapp:app

\b
Exit codes:
  0  fine, perhaps with notes
  1  warnings
  2  errors
"""

INIT = """
Write a commented hybrid.toml for the application found in the working directory.

Found are: a Django project by its manage.py; applications of Flask, FastAPI, Starlette, Quart and Litestar that a
module assigns; factories called create_app or make_app; functions with the parameters of WSGI or ASGI; connection
handlers, async (reader, writer) or sync (sock, address). The best candidate becomes a service, the others are named in
comments.
Sources are read and not run: the directory and three levels below it, at most 500 files, without tests, virtual
environments and hidden directories.

With --from, the settings of another server are translated: a gunicorn.conf.py, a Procfile, or a command line of
gunicorn, uvicorn, hypercorn or granian, in quotes. What has no equivalent is listed, with what to do instead.

\b
Examples:
  hybrid init
  hybrid init --from gunicorn.conf.py
  hybrid init --from Procfile
  hybrid init --from "uvicorn --host 0.0.0.0 --port 8000 --workers 4 shop:app"
"""

RUN = """
Serve TARGET on every core until stopped.

TARGET is module:attribute; the working directory is searched first. It is a WSGI or ASGI application (Flask, Django,
Starlette, FastAPI and the like), a connection handler, sync as for gevent.server.StreamServer or async as for
asyncio.start_server, a factory of asyncio.Protocol, or a datagram handler.

A file can set the options, hybrid.toml, and name services: [service.NAME] with target = "module:attribute", or with
command = ["program", "argument"] for a program of any kind. hybrid run serves them all, hybrid run NAME NAME those
named. Without TARGET and without a service in a file, a demonstration is served.

A supervisor process owns the listening sockets and forks the workers; each runs one event loop. A worker that dies is
replaced, and its successor serves the connections waiting in its queue. A failure of one service does not disturb the
workers of another.

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
  TTIN, TTOU          add a worker, remove a worker; with several services, of the first one
  HUP                 reload: load new code, one worker after the other, one service after the other
  USR2                upgrade: start this program again on the same sockets

\b
Exit codes:
  0  stopped as asked, everything drained
  1  any other error
  2  the command line is wrong
  3  TARGET cannot be imported, found or recognised, or a program not executed
  4  an address cannot be bound
  5  the event loop is not usable here
  6  workers kept dying or hanging before any was ready
  7  a process had to be killed at the stop
  9  more workers died than --max-restarts allows
"""
