"""HTTP and WebSocket, between a transport and an application. Nothing in here knows a loop or an interface by name.

exchange        the protocol between a wire and an application: one request and its response
head            the head of a response: validated, encoded
context         state shared by all connections of a worker
wires           which of the wires a service speaks
settings        settings, as plain data
clock           coarse time for a worker: its Date header, the deadlines of its connections
forwarded       a request's client, scheme and host according to trusted proxies
request_ids     the id of each request, from a trusted proxy or made
proxy_protocol  the PROXY header, in which a load balancer names the client of a connection
h1/             HTTP/1.1 on the wire
h2/             HTTP/2 on the wire
websocket/      WebSockets: frames, and a session from its handshake to its end
access/         the access log
"""
