"""Modules that all other rooms of a worker use. Nothing here imports those rooms.

connections  the open connections: counts them, notes their end, ends them at the deadline
counts       counts what becomes of requests, and bytes
heartbeat    writes the worker's state into shared memory
lingering    closes connections without the reset that unread input causes
fairness     makes handlers that never wait yield to the loop
forks        cleans up in a process that a handler forks
labels       `hybrid.label`: the application names the part of it that a request belongs to
accounting   what the requests of each label cost the loop and the processor
requests     a request in progress, as operators see it
frames       errors without the frames that their tracebacks keep alive
addresses    IPv4 peers of a socket that serves both families
incidents    limits log lines that any client can cause to one a minute
errors       `BootError`: why a worker cannot start, with its exit code
failures     errors of the application's code in words, with its own frames
"""
