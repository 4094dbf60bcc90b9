"""A load that checks every answer and counts what becomes of every request; for faults, not for speed.

    tally     what was counted
    client    one client: a connection at a time, a request at a time
    __main__  the program: all clients in one thread, told what to do on standard input

`python -m benchmarks.storm --help`. The tests of faults start it too. The server must answer every request with status
200, a Content-Length, and the text `TOKEN PID GENERATION`, of which TOKEN is what the query of the target ends with.
"""
