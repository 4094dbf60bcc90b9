"""ASGI applications.

interface  an application in a worker
call       one HTTP request: the scope, `receive`, `send`
websocket  one WebSocket
lifespan   start-up and shutdown events
"""
