"""Turns what happens into events, and actions into system calls. Nothing here decides.

    branch    one service: its sockets, its children, and the parts that work on them
    hearing   messages of children and confirmed forks, as events
    deaths    deaths of children, as events; ends the processes that dead children left
    looks     periodic checks: stalled workers, broken listening sockets
    actions   performs the actions of a machine: a table from action to method
    reports   writes the reports of the machines and of the tree to the log
    telling   reports to the embedding process, the service manager and the log

    operators   the clients of the control line, and their requests
    answering   answers a request, at once or once its end has come
    tasks       requests that are answered once their end has come
    inspecting  the stacks of workers, once they have told them
    describing  the status as JSON text
    rows        the rows of workers and companions in it
    happenings  the events for clients that listen, and the last of some kinds
    bookkeeping  counts over an upgrade: the ledgers
    tallies     counts what happened to each service, and the lines that blocked its loops
    announcing  runs a program for each event
    refitting   reads the configuration again, and applies it

These modules may import all other rooms; only `loop` and `start` import them.
"""
