"""WebSockets (RFC 6455).

frames   the protocol without IO: bytes in, messages out
session  a WebSocket from its handshake to its end: back-pressure, keep-alive, closing
"""
