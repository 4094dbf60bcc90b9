"""The client of the control socket: how a command asks a running supervisor. Standard library only.

The protocol is described in `docs/control.md`. Nothing here waits without a deadline.

client     one connection: connect, request, wait for the answer, read events
messages   the lines of the protocol as objects: greeting, result, failure, progress, event
finding    the supervisors that run here, from `/proc/net/unix`
choosing   which of them is meant
errors     the ways in which asking fails
"""
