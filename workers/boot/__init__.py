"""From the fork to an application that can serve.

application     what is to be served, as plain data
target          loads it
audit           what an import has left in a process that does not survive a fork
native_threads  which threads of C code a fork has again
dispositions    what signals do in a worker, also after the application has changed that
crash           dumps the stacks at a crash in C code
stall           leaves the stack of a stalled loop for the supervisor
heap            a setting of the C library's memory that a server needs
"""
