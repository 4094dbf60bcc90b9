"""The kinds of application: how each is recognised, and how it is given a connection or a datagram.

detect          which kind a target is, by its signature; refuses to guess
effects         which options a kind has no use for
adapter         what every interface is to the worker
stream          `handle(sock, address)` and `async handle(reader, writer)`
protocol        a factory of `asyncio.Protocol`
datagram        `handle(data, address, transport)`, sync or async
web             WSGI and ASGI applications as the worker sees them: connections, TLS, the drain
greetings       connections whose PROXY header has not come yet
logged          the exchanges of both as they are where there is an access log
wsgi            one request to a WSGI application
wsgi_input      `wsgi.input`: the body of a request as a file
wsgi_socket     one WebSocket of a WSGI application, which speaks over the socket itself
bridge          a pair of sockets between an application and its connection
wsgi_file       `wsgi.file_wrapper`, and which files the kernel may send
runners         where WSGI requests run: greenlets or threads
asgi            one request to an ASGI application
asgi_websocket  one WebSocket of an ASGI application
lifespan        ASGI's start-up and shutdown events
"""
