"""HTTP/2 on the wire (RFC 9113), over the same seam as HTTP/1.

choice      which of the two a connection speaks: by ALPN, or by its first bytes
connection  one connection: its transport, its streams, its start and its end
exchange    one stream: a request and its response
tunnel      a WebSocket over one stream
session     the state machine of the protocol, over the library `ngh2`
heads       the head of a request: from fields to a `Request`, or a refusal
fields      the head of a response, as fields
allowance   how many control frames a client may send
deadlines   the timeouts of a connection and of its streams
"""
