"""The suite `offload`: calls that leave their process, by `hybrid.offload` and by the pools people use today.

    suite         runs the parts, and prints their tables
    calls         the part `calls`: round trips of a tiny call
    payloads      the part `payloads`: large arguments and results
    scaling       the part `scaling`: calls that compute, in one pool process and in two
    service       the part `service`: a light endpoint beside one that computes
    rows          the callers: hybrid on its loops, and the pools of others
    measuring     starts a caller, and asks it to measure
    task          what a caller is asked for, and what it answers: a line of JSON each
    work          the functions that are called, and how their processes are pinned
    blocking      measures in code that blocks: threads and greenlets
    waiting       measures in coroutines
    handlers      a caller as a handler of hybrid, in both styles
    peers         the other callers: `python -m benchmarks.offload.peers NAME PROCESSES`
    dirty         a caller inside gunicorn, beside its dirty workers
    applications  the endpoints of the part `service`

Calls are timed in the process that makes them, so the client costs nothing.
"""
