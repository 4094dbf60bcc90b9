"""The suites about a service of several workers: who shares what, and what happens while workers come and go.

    fairness      one client that keeps a worker busy beside 16 with short requests; what watching for it costs
    uniform       the second part of that
    lifecycle     reload, SIGKILL, stop, upgrade, scaling and recycling under load
    scenario      what `lifecycle` wants to know of each of these:
    reloads       three HUPs
    kills         the SIGKILL of a worker every second
    stops         a SIGTERM
    changes       what only hybrid has: USR2, TTIN and TTOU, --max-requests
    footprint     the memory of all processes of one application at four workers
    httpload      runs the client (native/httpload.c), which goes on when requests fail and tells when and how
    processes     a server's processes: which answer, what they hold, whether they are gone
    rows          the servers

Nothing is pinned here but in `uniform`: two workers have two cores, and the clients share them.
"""
