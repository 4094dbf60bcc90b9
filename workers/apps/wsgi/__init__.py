"""WSGI applications (PEP 3333).

interface  an application in a worker
call       one request: the environ, `start_response`, the response
accounted  the same, with what it costs counted by label
runners    where requests run: greenlets or threads
input      `wsgi.input`: the body of a request as a file
file       `wsgi.file_wrapper`, and the files that the kernel may send
socket     one WebSocket, whose application uses the socket directly
bridge     a socket pair between an application and its connection
"""
