"""The child process: everything that runs after the fork.

    contract/      what the supervisor and a worker share (the only part the supervisor may import)
    main           the body of a worker: take the seat, load the application, serve, drain, exit code
    boot/          from the fork to an application that can serve
    accepting/     from a listener to an accepted connection
    common/        what all other rooms need: connections, closing without loss, fairness
    preload        loads the application in a process that will be forked into workers
    refork         a worker that has drained becomes such a process
    pollers/       select, poll and epoll behind one contract
    hub/           the hub: hybrid's event loop, asyncio and greenlets on one thread
    streams/       connected stream sockets: streams for handlers, transports for protocols
    tasks/         tasks that are stepped at once, and the private names of asyncio
    loops/         the closed registry of the six loops
    apps/          the kinds of application
    http/          HTTP/1.1 and WebSocket
    serving        a worker while its loop runs: listeners, the supervisor, draining
    identity       which worker serves it
    runtime        what handlers stand on, in three roles: greenlets, transports, the life of the loop
    green          the functions of that for application code

Nothing here imports ``hybrid`` (the public package) or ``hybrid.supervisor``.
"""
