"""The parent process: it owns the listening sockets and keeps one worker alive in each slot.

A sans-IO core decides, a thin shell acts. The rooms:

    core/        what can happen, and what is done about it: `step(event, now) -> actions`
    listeners/   the sockets of each address: opened once, held for life, one member of a group per slot
    children/    how workers and zygotes come to be and end: fork, channel, reaping
    watch/       whose loop stands still, and where
    upgrade/     the program executed anew, with the sockets
    contact/     whom the supervisor talks with: embedding process, service manager, pidfile

    shell/       the hands of the loop: events come from it, actions are performed by it; it knows all rooms

    settings     everything a supervisor is told
    start        from the settings to the exit code: opens what the loop needs
    loop         wait, translate, step, perform

No application code runs here and no event loop is imported. Of the other folders only `hybrid.workers.contract` is
known.
"""
