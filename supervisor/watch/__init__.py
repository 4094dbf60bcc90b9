"""Detects stalled event loops, and finds the line of the application that blocks them.

    stall_detector  finds stalled loops from the scoreboard
    rates           how busy each worker was in the last seconds
    stack_dumps     requests the stacks of stalled children, and logs them
    dump_file       memory that one child writes its stacks to, and the request for one dump
    inquiries       asks children what they do just now, for operators
    stacks          turns the text of a dump into a log message

`core.stalls` decides how to react to a stall.
"""
