"""The parent process: it owns the listening sockets and keeps one worker alive in each slot.

A sans-IO core decides, a thin shell acts:

    events      what can happen (inputs) and what can be done about it (actions)
    states      the states of a child, and what each news does to them
    table       which child sits in which slot; nobody else keeps such a list
    policy      how long to wait: back-off, boot deadline, kill ladder
    rollout     what is missing and what is too much, as a plan derived from the table
    machine     `step(event, now) -> actions`, the only writer of the table
    status      what is told to whoever asks

    kernel      the seam to the operating system: fork, reap, kill, wait, signals, time
    spawn       what a child closes, resets and keeps after the fork
    addresses   the syntax of `--bind`
    binding     why an address could not be bound, in words
    group       the SO_REUSEPORT group of one TCP or UDP address, one member per slot
    shared      UNIX sockets and inherited descriptors: one socket for all slots
    sockets     all listeners of a service
    bpf         programs that the kernel runs for a socket
    handshakes  no new ones at a stop
    steering    which members of a group get new connections
    control     the line between an embedding process and its supervisor
    desk        where an embedding process is answered
    pidfile     the file that names the supervisor's pid
    settings    everything a supervisor is told
    loop        the shell: wait, translate, step, perform

No application code runs here and no event loop is imported. Of the other folders only `hybrid.workers.contract` is
known.
"""
