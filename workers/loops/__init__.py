"""The six loops, by name.

    registry          the closed table: name, summary, required packages, usable here or not
    driver            the interface of a loop, and how a loop is run from start to end
    hub_loop          select, poll, epoll: the hub over three pollers
    asyncio_loop      asyncio's own loop
    uvloop_loop       uvloop
    gevent_loop       gevent, and an asyncio loop on top of it for coroutines
    gevent_runtime    the runtime on gevent; imported once gevent has patched the standard library
    gevent_selector   the asyncio loop that shares gevent's thread, and its selector
    gevent_sockets    gevent's socket for sync handlers, closed without loss and fair
    gevent_transport  gevent's lean transport for the server's protocols
    native_streams    asyncio's streams, for asyncio, uvloop and gevent
    native_transport  the loop's own transport for the server's protocols
    bounded_reads     limits its reads to the size that the protocol handles quickly

To add a loop: a module with the methods of `driver.Driver`, and a line in the registry.
"""
