"""The contract between the supervisor and its workers; neither side imports more of the other.

    worker_spec   everything a worker is given: slot, generation, listeners, channel, grace period
    messages      the messages between the supervisor and its children
    wire          the form of all messages: a datagram of JSON, with descriptors
    stack_report  the form of a report of stacks: what a worker writes into memory for an operator
    scoreboard    the activity of each worker, in shared memory
    label_counts  what the requests of each label have cost
    metric_seat   the name of a process in the files of metrics of the application
    channel       the socket pair that carries the messages; its EOF reports a death
    signals       the signals that request a stack dump from a stalled worker
    offload_queue  the queue of offloaded calls: its address
    gateway_spec  what a gateway to a Dask cluster is told, across execve(2)
    warming       why a process that imported the application cannot be forked
    promoted      the outcome of a worker that becomes a zygote
    exits         exit codes of workers and of the command
    records       fast frozen dataclasses
    version       the version of this package
    log           the log format, and a handler that never waits for the reader of the log
    lines         a descriptor that whole lines are written to
    reopening     replaces files of the log that were reopened

This package imports the standard library only: no event loop, no application code.
"""
