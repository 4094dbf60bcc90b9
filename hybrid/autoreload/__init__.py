"""`hybrid run --reload`: restarts the service when its source files change. For development.

changes     which files are watched, and the stream of their changes
watcher     owns the sockets and starts the child
child       becomes the supervisor of one run of the service
restarting  when the child is started and ended: decisions only
"""
