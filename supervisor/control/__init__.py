"""The control line: a UNIX socket on which commands such as `hybrid status` talk to a running supervisor.

One JSON object per line, both ways. This room has the socket, the clients, the lines, the rights and the bounds. What
a request means is decided elsewhere. Nothing here blocks, and no client can delay or end the supervisor.

address     where it listens: an abstract name, or a file
rights      what an account may do
requests    the table of requests; a line becomes a request, or an error
lines       bytes to lines; answers to bytes
clients     one client: its lines, its requests in progress, its unsent bytes
server      all clients: accepts, refuses, drops, publishes events
queues      how many connections wait in the accept queue of a listening socket
"""
