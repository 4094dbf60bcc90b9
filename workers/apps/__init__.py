"""The kinds of application: how each is recognised, and how it gets a connection or a datagram.

detect          the kind of a target, by its signature; refuses to guess
unused_options  options that a kind ignores
adapter         the interface between the worker and every kind
making          makes the adapter of a kind
stream          `handle(sock, address)` and `async handle(reader, writer)`
protocol        a factory of `asyncio.Protocol`
datagram        `handle(data, address, transport)`, sync or async
web             the part shared by WSGI and ASGI: connections, TLS, the drain
accounted       handlers of streams, with what they cost counted by label
request_ids     applications wrapped for request ids
preambles       connections whose PROXY header has not arrived yet
wsgi/           WSGI applications
asgi/           ASGI applications
"""
