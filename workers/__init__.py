"""The child process: everything that runs after the fork.

    contract/      what the supervisor and a worker share (the only part the supervisor may import)
    entry          the body of a worker: take the seat, load the application, serve, drain, exit code
    preload        loads the application in a process that will be forked into workers
    refork         a worker that has drained becomes such a process
    audit          what an import has left in a process that does not survive a fork
    native_threads  which threads of C code a fork has again
    pollers/       select, poll and epoll behind one contract
    hub/           the event loop of ours: asyncio and greenlets on one thread
    tasks/         tasks that are stepped at once, and the private names of asyncio
    loops/         the closed registry of the six loops
    interfaces/    the kinds of application
    http/          HTTP/1.1 and WebSocket
    serving        a worker while its loop runs: listeners, the supervisor, draining
    accept         when a connection is taken from a listener, and when not
    listening      the listeners that a worker reads, and what may break them
    adoption       the listeners of other slots: accepts from those that the supervisor names
    lingering      closes connections without the reset that unread input makes
    fairness       makes those that never have to wait give way
    connections    the connections that are open: counted, told when they end, ended when they must
    addresses      IPv4 peers of a socket that serves both families
    incidents      log lines that any client can cause: one a minute
    errors         why a worker cannot start, with its exit code
    frames         what an error keeps alive by its traceback, and how not to
    scoreboard     tells in shared memory what this worker is doing: the heartbeat
    wear           when a worker has served, lived or grown so much that another should take its place
    application    what is to be served, as plain data
    target         loads it
    identity       which worker serves it
    runtime        what handlers stand on, in three roles: greenlets, transports, the life of the loop
    green          the functions of that for application code
    registrations  the bookkeeping of a selector, for the hub and for gevent
    forks          what a process gives up that a handler forks
    tls            the context of TLS connections
    server_names   chooses a certificate by the name of the host
    dispositions   what signals do in a worker, also after the application has changed that
    crash          leaves evidence of a crash in C code
    stall          leaves the stack of a stalled loop for the supervisor
    heap           a setting of the C library's memory that a server needs

Nothing here imports ``hybrid`` (the public package) or ``hybrid.supervisor``.
"""
