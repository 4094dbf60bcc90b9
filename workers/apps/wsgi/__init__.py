"""WSGI applications (PEP 3333).

interface  an application as the worker sees it
call       one request: the environ, `start_response`, the answer
runners    where requests run: greenlets or threads
input      `wsgi.input`: the body of a request as a file
file       `wsgi.file_wrapper`, and which files the kernel may send
socket     one WebSocket, whose application speaks over the socket itself
bridge     a pair of sockets between an application and its connection
"""
