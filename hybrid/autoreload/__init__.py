"""`hybrid run --reload`: restarts the service when its source files change. For development.

changes     the files to watch, and the stream of their changes
watcher     owns the sockets and starts the child
child       becomes the supervisor of one run of the service
restarting  decides when to start and end the child
"""
