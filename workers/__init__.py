"""The child process: everything that runs after the fork.

    contract/    what the supervisor and a worker share (the only part the supervisor may import)
    entry        the body of a worker: take the seat, load the application, serve, drain, exit code
    pollers/     select, poll and epoll behind one contract
    hub/         the event loop of ours: asyncio and greenlets on one thread
    loops/       the closed registry of the six loops
    interfaces/  one file per kind of application
    accept       when a connection is taken from a listener, and when not

Nothing here imports ``hybrid`` (the public package) or ``hybrid.supervisor``.
"""
