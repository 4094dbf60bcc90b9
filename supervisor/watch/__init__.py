"""Detects workers whose event loop stalls, and finds the line of the application where it does.

    stall_detector  finds stalled loops from the scoreboard
    stack_dumps     requests the stacks of stalled children, and logs them
    dump_file       memory that one child writes its stacks to, and the request for one dump
    stacks          turns the text of a dump into a log message

`core.stalls` decides what follows from a stall.
"""
