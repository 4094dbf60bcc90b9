"""HTTP/1.1 and WebSocket, between a transport and an application. Nothing in here knows a loop by name.

settings     what can be set, as plain data
clock        the time of a worker in coarse steps, its Date header, the deadlines of its connections
connection   one connection: from bytes to exchanges, and when it is closed
exchange     one request and its answer, whatever the interface
head         the head of an answer: validated, framed, encoded
refusals     what is refused before an application sees it
"""
