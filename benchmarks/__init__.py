"""Measures hybrid side by side with what people use today: ``python -m benchmarks`` prints every table.

    __main__      the command line
    echo          64 connections x 64 bytes, one pinned core, against gevent, asyncio, uvloop and a C server
    cpu           a CPU-bound handler with one worker and with two
    memory        what a worker and an idle connection cost, at 10,000 connections
    boot          from the command to serving, and from a worker's SIGKILL to its successor's first answer
    web/          the HTTP suites: wsgi, asgi, fastapi, upload, download, websocket, https, h2
    storm/        a load that checks every answer and counts every failure; the fault tests use it too
    service/      the suites about several workers: fairness, lifecycle, footprint, balance, scale
    offload/      calls in other processes, by hybrid.offload and by other pools
    applications/ what they serve
    servers       starts, watches and always ends a server that is measured
    load          runs the compiled load generator
    native/       the load generator, the HTTP client and the C server, in C; compiler.py builds them at run time
    peers/        the servers we compare with; they run the very same handlers (handlers.py, protocols.py)
    figures       medians and paired ratios
    table         aligned text
    machine       which cores there are, and who uses them
    quiet         repeats what others disturbed
    report        what each suite takes and gives

Nothing here is imported by the package or installed with it.
"""
