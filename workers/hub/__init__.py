"""The event loop of ours: asyncio, greenlets and lean streams on one thread, over any of the three pollers.

    watch          one file descriptor and its waiters; the registry that arms and disarms the poller
    selector       the selector inside `asyncio.SelectorEventLoop`: calls waiters back directly, hands asyncio its own
    loop           `HubLoop`: that asyncio loop
    reactor        the same registry over `add_reader`/`add_writer`, for asyncio's own loop and uvloop
    parking        how a greenlet waits for one thing and is woken once
    greenlets      `Greenlet`: spawn, get, join, kill, as gevent users know them
    pool           greenlets that serve one request after another
    sockets        `Socket`: a `socket.socket` whose blocking calls park the greenlet
    runtime        `HubRuntime`: what handlers stand on, over our hub, asyncio's loop or uvloop
    lazy_timeout   a timeout that is set for every wait and hardly ever fires
    connection     one connection of the lean streams: the socket, what is unsent, and how it ends
    backlog        its unsent bytes
    transport      its writing half, seen as an `asyncio.Transport`
    handler_transport  both halves: `writer.transport`
    stepping       the coroutine of a connection's task, stepped by the poller
    streams        `StreamReader` for async handlers
    writer         `StreamWriter` for async handlers
    futures        the small awaitable that steps a task as soon as its socket is readable
    protocols      `ProtocolTransport`: the lean transport for a protocol of ours, such as HTTP
    tls_transport  `TlsTransport`: the same with TLS
    read_size      how many bytes to read at once from a connection that has more
    outbox         answers that become ready within one turn of the loop go out together

A greenlet of a handler has the greenlet that runs the loop as its *home*: to wait is to leave a callback with a watch
and switch home; to be woken is to be switched to from there. No lock is taken anywhere: one thread runs it all.
"""
