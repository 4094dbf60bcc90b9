"""Tasks that a callback of the loop steps immediately, where asyncio would queue their next step.

    cpython        all private names of asyncio that are used: a new CPython may break them
    parked         objects that a parked task waits for, and how they wake it
    request_tasks  tasks for requests, reused as long as requests do not wait

An `asyncio.Task` waits for any object that implements the future protocol (PEP 3156; Modules/_asynciomodule.c,
`task_step` and `task_wakeup`). When its coroutine yields such an object, the task checks the object's mark and its
loop, and calls `add_done_callback(wakeup, context=...)`. The task continues when `wakeup(something)` is called: it
calls `something.result()`, which returns or raises. A future queues `wakeup` in the loop. The objects here call it in
the poller's callback, so the task runs as soon as its socket is readable or its message has arrived. That saves half of
the time of a small message.
"""
