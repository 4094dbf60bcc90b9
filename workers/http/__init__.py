"""HTTP/1.1 and WebSocket, between a transport and an application. Nothing in here knows a loop by name.

settings        what can be set, as plain data
site            what all connections of a worker share
clock           the time of a worker in coarse steps, its Date header, the deadlines of its connections
connection      one connection: how it begins, its deadlines, its end; the last of a chain of classes
turns           ... whose turn it is to be answered, refusals in their place, back-pressure
intake          ... from bytes to exchanges
state           ... what it knows
checks          what the header fields of a request say, or why it is refused
chunks          the chunks of one request body: where it ends, and that its lines are right
refusals        what is refused before an application sees it
exchange        one request and its answer, whatever the interface
head            the head of an answer: validated, framed, encoded
files           files as answers, by sendfile(2) where that can be
conversation    a WebSocket from its handshake to its end, whatever the interface
websocket       the WebSocket protocol: bytes in, messages out
forwarded       what trusted proxies say about a request
proxy_protocol  what a load balancer says about a connection before its first byte
access          the access log: a line for each answer, written without waiting
access_journal  what the access log hears of connections
access_line     one line of the access log, in each of its forms
access_record   what the access log knows of one answer
"""
