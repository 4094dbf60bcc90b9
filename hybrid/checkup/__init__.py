"""`hybrid check`: everything that can be checked before a start, without starting anything.

findings    the result: a level, what was checked, and the reason; as lines and as JSON
facts       what is known about a service and this machine, as plain data
judging     facts in, findings out: pure
collecting  collects the facts: opens and closes sockets, loads the target in a child process, reads /proc
"""
