"""ASGI applications.

interface  an application as the worker sees it
call       one HTTP request: the scope, `receive`, `send`
websocket  one WebSocket
lifespan   start-up and shutdown events
"""
