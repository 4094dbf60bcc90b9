"""The kinds of application: how each is recognised, and how it is given a connection or a datagram.

detect     which kind a target is, by its signature; refuses to guess
effects    which options a kind has no use for
adapter    what every interface is to the worker
stream     `handle(sock, address)` and `async handle(reader, writer)`
protocol   a factory of `asyncio.Protocol`
datagram   `handle(data, address, transport)`, sync or async
web        what WSGI and ASGI applications share: connections, TLS, the drain
preambles  connections whose PROXY header has not come yet
wsgi/      WSGI applications
asgi/      ASGI applications
"""
