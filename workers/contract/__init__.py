"""What the supervisor and its workers share, and nothing else.

    worker_spec what a worker is given: slot, generation, listeners, channel, grace period
    messages    what the supervisor and its children tell each other
    wire        the form of all messages: a datagram of JSON, descriptors beside it
    scoreboard  what each worker is doing, in shared memory
    channel     the socket pair that carries the messages; its EOF is the news of a death
    signals     those by which the supervisor asks a stalled worker for its stack
    warming     why a process that has imported the application cannot be forked
    promotion   what a worker ends with that is to be a zygote from now on
    exits       exit codes of workers and of the command
    records     the frozen dataclasses of the project, made quickly
    log         the one log format and a stderr that never blocks

This package imports the standard library only: no event loop, no application code.
"""
