"""What `hybrid run` serves when it is given no target.

app    an ASGI application with a page about itself
guide  what to try there, added to the supervisor's words
"""
