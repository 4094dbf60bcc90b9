"""The parent process: it owns the listening sockets and keeps one worker alive in each slot.

A sans-IO core decides, a thin shell acts:

    events       what can happen (inputs) and what can be done about it (actions)
    states       the states of a child, and what each news does to them
    table        which child sits in which slot; nobody else keeps such a list
    policy       how long to wait: back-off, boot deadline, kill ladder, restart intensity
    rollout      what is missing, too much or out of date, as a plan derived from the table
    core         what the parts of the machine work on
    lives        what happens to a worker, from its fork to its death
    generations  zygotes and reloads
    stalls       loops that stand still
    upgrades     another supervisor takes over
    promotion    a warm worker becomes the next zygote
    machine      `step(event, now) -> actions`, with its parts the only writer of the table
    status       what is told to whoever asks

    kernel       the seam to the operating system: fork, reap, kill, wait, signals, time
    orphans      children that it has not forked
    crew         the children as the shell knows them: lines, places, evidence
    forking      how children come to be
    spawn        what a child closes, resets and keeps after the fork
    zygote       the process that imports the application once and forks workers

    addresses    the syntax of `--bind`
    binding      why an address could not be bound, in words
    group        the SO_REUSEPORT group of one TCP or UDP address, one member per slot
    members      how the sockets of a group are opened
    shared       UNIX sockets and passed descriptors: one socket for all slots
    sources      what becomes of each address: opened, passed or a predecessor's
    sockets      all listeners of a service
    bpf          programs that the kernel runs for a socket
    handshakes   no new ones at a stop
    steering     which members of a group get new connections

    lookout      whose loop stands still, read from the scoreboard
    inquest      stalled children are asked where they stand
    evidence     the stacks of a stalled child: the memory they are written to, the asking
    stacks       what they say, for a person

    invocation   how this program was started
    handover     the program executed anew, with the sockets: the side of the old supervisor
    inheritance  the side of the new one
    wire         what the two tell each other
    succession   both sides, as the shell sees them

    control      the line between an embedding process and its supervisor
    desk         where an embedding process is answered
    pidfile      the file that names the supervisor's pid
    notify       the line to systemd
    herald       what it is told, and when

    settings     everything a supervisor is told
    loop         the shell: wait, translate, step, perform

No application code runs here and no event loop is imported. Of the other folders only `hybrid.workers.contract` is
known.
"""
