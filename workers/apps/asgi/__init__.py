"""ASGI applications.

interface  an application in a worker
call       one HTTP request: the scope, `receive`, `send`
websocket  one WebSocket
accounted  both, with what they cost counted by label
lifespan   start-up and shutdown events
"""
