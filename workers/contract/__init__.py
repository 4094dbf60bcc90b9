"""The contract between the supervisor and its workers; neither side imports more of the other.

    worker_spec  everything a worker is given: slot, generation, listeners, channel, grace period
    messages     the messages between the supervisor and its children
    wire         the form of all messages: a datagram of JSON, with descriptors
    scoreboard   the activity of each worker, in shared memory
    channel      the socket pair that carries the messages; its EOF reports a death
    signals      the signals that request a stack dump from a stalled worker
    warming      why a process that imported the application cannot be forked
    promoted     the outcome of a worker that becomes a zygote
    exits        exit codes of workers and of the command
    records      fast frozen dataclasses
    log          the log format, and a stderr that never blocks

This package imports the standard library only: no event loop, no application code.
"""
