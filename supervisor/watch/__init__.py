"""The watch over the workers' loops: which one stands still, and in which line of the application.

    lookout      whose loop stands still, read from the scoreboard
    inquest      stalled children are asked where they stand
    evidence     the stacks of a stalled child: the memory they are written to, the asking
    stacks       what they say, for a person

What follows from a stall is decided in `core.stalls`.
"""
