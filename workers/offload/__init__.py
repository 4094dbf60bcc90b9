"""Calls leave the process: `hybrid.offload`, its jobs, and the body of offload workers.

calling        `offload`, `executor`: what a call needs, wherever it is made
job            `Job`: waits in coroutines, greenlets and threads
errors         the errors of a call that are not the function's own
settings       the limits of a service's calls
place          what kind of process this is
desk           a worker's side of the queue: sends calls, hears of their ends
body           the other side: an offload worker, which runs one call after another
interruption   ends a running call whose caller has given it up
kinds          the kinds of messages
outcomes       the outcome of a call: result, error, or why there is neither
gateway        passes calls on to a Dask cluster, in an interpreter of its own
cluster        the gateway's connection to the cluster
remote         what runs on the cluster's workers, and travels there by value
once           what keeps the cluster's scheduler from running a call again
letters        a call or its outcome as one message, with large contents in shared memory
packing        objects as bytes: pickle, then dill
refusals       what must not travel, and the path to it
alone          outside of a service: a process for each call
"""
