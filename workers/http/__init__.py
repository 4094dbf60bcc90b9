"""HTTP and WebSocket, between a transport and an application. Nothing in here knows a loop or an interface by name.

exchange        one request and its answer: what a wire and an application are to each other
head            the head of an answer: validated, encoded
context         what all connections of a worker share
settings        what can be set, as plain data
clock           the time of a worker in coarse steps, its Date header, the deadlines of its connections
forwarded       what trusted proxies say about a request
proxy_protocol  what a load balancer says about a connection before its first byte
h1/             HTTP/1.1 on the wire
websocket/      WebSockets: frames, and a session from its handshake to its end
access/         the access log
"""
