"""HTTP/1.1 on the wire.

connection        one connection: its transport, and the path of a request through it
exchange          one request and its response: the framing of the response
connection_state  the states of a connection
deadlines         the timeouts of a connection, and their expiry
responses         queued exchanges and refusals; reading and writing in balance
reader            bytes in; requests, bodies, upgrades and refusals out. Without IO
phases            the phases of a reader, as a table
rules             the limits that a reader enforces
partial_head      a request head received in pieces
body_framing      the end of a request body
repeated          the previous head, for a client that sends it again
extras            uncommon parts of a head: an upgrade, 100-continue, an absolute URL
checks            checks of header fields that concern framing
chunks            the chunks of one request body: where it ends, and validation of its lines
refusals          requests refused before an application sees them
files             file responses, by sendfile(2) where possible
"""
