"""Programs to read and to try, one subject each. The tests run every one of them.

    ping_pong            two greenlets that switch to each other
    many_greenlets       thousands of greenlets on one core
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
    chat                 chat rooms, in a worker or across workers
    one_core_many_cores  the gain from a second core
    embedded             a service inside your own program
    offload_script       calls in other processes, from a script

Start handlers and applications with ``hybrid run`` from the directory above, as the first lines of each show.
"""
