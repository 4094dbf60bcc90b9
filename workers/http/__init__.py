"""HTTP/1.1 and WebSocket, between a transport and an application. Nothing in here knows a loop by name.

settings        what can be set, as plain data
site            what all connections of a worker share
clock           the time of a worker in coarse steps, its Date header, the deadlines of its connections
connection      one connection: its transport, and the path of a request through it
life            how far a connection is
deadlines       how long a connection waits for what, and what happens then
answers         what has to wait for its turn: exchanges, refusals, reading and writing in balance
reader          bytes in; requests, bodies, upgrades and refusals out. Without IO
phases          the phases of a reader, as a table
rules           the limits that a reader keeps
partial_head    a head that comes in pieces
body_framing    where a body ends
repeated        the head of the request before, for a client that sends it again
extras          what few requests say: an upgrade, 100-continue, the target in another form
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
