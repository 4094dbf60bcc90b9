"""What a worker does just now, for operators: its threads, greenlets, tasks and requests.

    survey      writes the report of one worker
    frames      the frames of a stack
    coroutines  the frames of a task, down to the innermost `await`, and the object that it waits for
    greenlets   the stacks of all greenlets that wait
    heap        finds the greenlets of this process; the only module that every worker imports

Nothing here calls code of the application, such as a `__repr__`: the loop waits meanwhile.
"""
