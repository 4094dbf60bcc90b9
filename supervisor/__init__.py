"""The parent process: it owns the listening sockets and keeps one worker alive in each slot of each service.

A sans-IO core decides, a thin shell acts. The rooms:

    core/        a state machine for each service, and the tree above them: `step(event, now) -> actions`
    listeners/   the sockets of each address: opened once, held for life, one member of a group per slot
    children/    workers and zygotes from fork to reaping
    watch/       detects stalled loops, and dumps their stacks
    upgrade/     executes the program again, and passes the sockets
    control/     the control line: the socket for commands to a running supervisor
    contact/     the embedding process, the service manager, the pidfile

    shell/       turns inputs into events and performs actions; may import all rooms

    settings     the configuration of one service
    deployment   everything that a supervisor runs: its services
    revision     the difference between two deployments
    start        from the deployment to the exit code: opens the sockets, runs the loop
    loop         wait, translate, step, perform

No application code runs here, and no event loop is imported. Of the other folders, only `hybrid.workers.contract` may
be imported.
"""
