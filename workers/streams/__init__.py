"""Connected stream sockets on an event loop: streams for async handlers, and transports for the server's protocols.

    stream_socket       `StreamSocket`: one connection; sends, keeps unsent bytes, closes
    backlog             its unsent bytes
    lent_socket         its socket as handlers see it
    drained             what `writer.drain()` returns if there is nothing to wait for
    reader              `StreamReader` for async handlers
    writer              `StreamWriter` for async handlers
    readiness           the awaitable that steps a task as soon as its socket is readable
    stepping            the coroutine of a connection's task, stepped by the poller
    write_transport     `WriteTransport`: the writing half of `asyncio.Transport`
    handler_transport   `HandlerTransport`: both halves for async handlers, `writer.transport`
    protocol_transport  `ProtocolTransport`: both halves for a protocol such as HTTP
    tls_transport       `TlsTransport`: the same with TLS
    read_size           how many bytes to read at once from a connection that has more

They work over the watches of any loop (`hub.watch`).
"""
