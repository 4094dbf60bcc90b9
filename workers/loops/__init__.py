"""The six loops, by name.

    registry          the closed table: name, what it is, what it needs, whether it is usable here
    driver            what a loop has to provide, and how a loop is run to its end
    hub_loop          select, poll, epoll: our hub over three pollers
    asyncio_loop      asyncio's own loop
    uvloop_loop       uvloop
    gevent_loop       gevent, and an asyncio loop on top of it for coroutines
    gevent_runtime    the runtime on gevent; imported once gevent has patched the standard library
    gevent_selector   the asyncio loop that shares gevent's thread, and its selector
    gevent_sockets    gevent's socket for sync handlers, closed without loss and fair
    gevent_transport  gevent's lean transport for a protocol of ours
    native_streams    asyncio's streams for the loops that are not ours
    native_transport  the loop's own transport for a protocol of ours
    bounded_reads     makes that one read no more at once than the protocol handles quickly

To add a loop: a module with the methods of `driver.Driver`, and a line in the registry.
"""
