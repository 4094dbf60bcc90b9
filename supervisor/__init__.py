"""The parent process: it owns the listening sockets and keeps one worker alive in each slot.

A sans-IO core decides, a thin shell acts. The rooms:

    core/        the state machine: `step(event, now) -> actions`
    listeners/   the sockets of each address: opened once, held for life, one member of a group per slot
    children/    workers and zygotes from fork to reaping
    watch/       detects stalled loops, and dumps their stacks
    upgrade/     executes the program again, and passes the sockets
    contact/     the embedding process, the service manager, the pidfile

    shell/       turns inputs into events and performs actions; may import all rooms

    settings     the configuration of a supervisor
    start        from the settings to the exit code: opens the sockets, runs the loop
    loop         wait, translate, step, perform

No application code runs here, and no event loop is imported. Of the other folders, only `hybrid.workers.contract` may
be imported.
"""
