"""The child process: everything that runs after the fork.

    contract/    shared with the supervisor (the only part the supervisor may import)
    main         the body of a worker: take the spec, load the application, serve, drain, exit code
    boot/        from the fork to an application that can serve
    accepting/   from a listener to an accepted connection
    common/      used by all other rooms: connections, closing without loss, fairness
    preload      loads the application in a process that will be forked into workers
    refork       turns a drained worker into such a process
    pollers/     select, poll and epoll behind one contract
    hub/         the hub: hybrid's event loop, asyncio and greenlets on one thread
    streams/     connected stream sockets: streams for handlers, transports for protocols
    tasks/       tasks that are stepped immediately, and asyncio's private names
    loops/       the closed registry of the six loops
    apps/        the kinds of application
    http/        HTTP/1.1 and WebSocket
    hooks/       functions of the application that a worker calls: at its start, its drain, its end
    inspection/  what a worker does just now, for operators
    offload/     calls that leave the process, and the processes that run them
    companion    a process beside the workers that runs a function of the application
    ordering_thread  reads orders in a process whose main thread may block
    orders       the line to the supervisor while a loop runs
    serving      a worker while its loop runs: listeners, the supervisor, draining
    identity     which worker this process is
    runtime      the interface of a loop in three roles: greenlets, transports, life
    green        its functions for application code

Nothing here imports ``hybrid`` (the public package) or ``hybrid.supervisor``.
"""
