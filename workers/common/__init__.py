"""What all other rooms of a worker need. Nothing here imports them.

connections  the open connections: counted, told when they end, ended when they must
heartbeat    tells in shared memory what this worker is doing
lingering    closes connections without the reset that unread input makes
fairness     makes operations that never have to wait give way
forks        what a process gives up that a handler forks
frames       what an error keeps alive by its traceback, and how not to
addresses    IPv4 peers of a socket that serves both families
incidents    log lines that any client can cause: one a minute
errors       why a worker cannot start, with its exit code
"""
