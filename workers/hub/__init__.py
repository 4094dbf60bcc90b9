"""The hub: hybrid's event loop, which runs asyncio and greenlets on one thread over any of the three pollers.

    watch          one file descriptor and its waiters; the registry that arms and disarms the poller
    selector       the selector inside `asyncio.SelectorEventLoop`: calls waiters directly, returns asyncio its own keys
    loop           `HubLoop`: that asyncio loop
    loop_watches   the same registry over `add_reader` and `add_writer`, for asyncio's own loop and uvloop
    parking        how a greenlet waits for one thing and is woken once
    greenlets      `Greenlet`: spawn, get, join and kill, as gevent users know them
    pool           greenlets that run one request after another
    sockets        `Socket`: a `socket.socket` whose blocking calls park the greenlet
    connecting     connects a `Socket`
    files          sends a file on a `Socket`
    hub_runtime    `HubRuntime`: the runtime over the hub, asyncio's loop or uvloop
    lazy_timeout   a timeout that is set for every wait and hardly ever fires
    outbox         responses that become ready within one turn of the loop are sent together

A handler's greenlet has the greenlet that runs the loop as its *home*. To wait, it leaves a callback with a watch and
switches home; to wake it, the loop switches to it. One thread runs everything, so no lock is taken.
"""
