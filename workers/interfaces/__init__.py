"""The kinds of application: how each is recognised, and how it is given a connection or a datagram.

detect    which kind a target is, by its signature; refuses to guess
stream    `handle(sock, address)` and `async handle(reader, writer)`
protocol  a factory of `asyncio.Protocol`
datagram  `handle(data, address, transport)`, sync or async
"""
