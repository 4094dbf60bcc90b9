"""Programs to read and to type, one subject each; every one is run by `tests/integration/test_examples.py`.

    ping_pong            two greenlets that hand the word to each other
    many_greenlets       thousands of them on one core
    select_server        the event-driven server: listener, three lists, a queue per connection
    select_handler       the same service as a handler
    echo_sync            a handler as for gevent's StreamServer
    echo_async           a handler as for asyncio.start_server
    protocol             an asyncio.Protocol
    datagram             a handler of UDP datagrams
    chat                 rooms, in a worker or across workers
    one_core_many_cores  what the second core brings
    embedded             a service inside a program of yours

The ones with a handler are started as ``hybrid run examples.NAME:handle`` from the directory above.
"""
