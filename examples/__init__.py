"""Programs to read and to type, one subject each; every one is run by the tests.

    ping_pong            two greenlets that hand the word to each other
    many_greenlets       thousands of them on one core
    select_server        the event-driven server: listener, three lists, a queue per connection
    select_handler       the same service as a handler
    echo_sync            a handler as for gevent's StreamServer
    echo_async           a handler as for asyncio.start_server
    protocol             an asyncio.Protocol
    datagram             a handler of UDP datagrams
    wsgi_plain           a WSGI application without a framework
    asgi_plain           an ASGI application without a framework: lifespan, server-sent events, early hints
    websocket_echo       a WebSocket without a framework
    web_flask            a Flask application
    web_django           Django in one file, as WSGI and as ASGI
    web_fastapi          a FastAPI application
    web_starlette        a Starlette application: pages, an upload, a WebSocket
    chat                 rooms, in a worker or across workers
    one_core_many_cores  what the second core brings
    embedded             a service inside a program of yours

Handlers and applications are started with ``hybrid run``, as the first lines of each say, from the directory above.
"""
