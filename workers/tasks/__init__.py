"""Tasks that a callback of the loop steps at once, where asyncio would queue their next step.

    cpython        the private names of asyncio, all of them: what a new CPython may break
    parked         what a parked task waits for, and how it is woken
    request_tasks  tasks for requests, used again by those that never wait

An `asyncio.Task` waits for any object that speaks the future protocol (PEP 3156; Modules/_asynciomodule.c, `task_step`
and `task_wakeup`). The task yields the object, sees that it is marked as one to wait for, compares its loop, and calls
`add_done_callback(wakeup, context=...)`. It goes on when `wakeup(something)` is called: it asks `something.result()`,
which returns or raises. A future queues `wakeup` in the loop. The objects here call it in the poller's callback, so the
task runs the moment its socket is readable or its message is there. That saves half of the time of a small message.
"""
