"""The HTTP suites: hybrid beside the servers that people run their WSGI and ASGI applications with.

    suites        what is measured: every suite's application, servers, requests and comparisons, as data
    suite         measures one of them and prints its table
    slowloris     another suite: what slow clients (`slow_clients`) cost the good ones
    peers         the commands that start gunicorn, uvicorn, granian, hypercorn and bjoern
    clients       what asks: wrk, or the WebSocket mode of the load generator; both check the answers first
    exchange      a request and the answer that is right
    wrk           runs wrk (with request.lua) and reads its figures
    certificate   a throw-away certificate for the TLS suite

Nothing here knows how the figures come out, and no figure is written down.
"""
