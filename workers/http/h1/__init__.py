"""HTTP/1.1 on the wire.

connection      one connection: its transport, and the path of a request through it
exchange        one request and its answer: how the answer is framed
connection_state  the states of a connection
deadlines       how long a connection waits for what, and what happens then
responses       what has to wait for its turn: exchanges, refusals, reading and writing in balance
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
files           files as responses, by sendfile(2) where that can be
"""
