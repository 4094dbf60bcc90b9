"""Turns what happens into events, and actions into system calls. Nothing here decides.

    hearing   messages of children and confirmed forks, as events
    deaths    deaths of children, as events; ends the processes that dead children left
    looks     periodic checks: stalled workers, broken listening sockets
    actions   performs the actions of the machine: a table from action to method
    telling   reports to the embedding process, the service manager and the log

These modules may import all other rooms; only `loop` imports them.
"""
