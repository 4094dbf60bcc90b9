"""The demonstration, which `hybrid run` serves without a target.

app    an ASGI application with a page about itself
hints  commands to try, added to the supervisor's log
links  the URL of the dashboard, if --admin serves one
"""
