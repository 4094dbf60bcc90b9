"""The children of a supervisor, its workers and zygotes: how they come to be, what they inherit, how they are reaped.

kernel       the seam to the operating system: fork, reap, kill, wait, signals, time
orphans      children that it has not forked
handles      a handle to each child: channel, record, dump file
forking      forks children, here or by a zygote, with their channels and records
spawn        what a child closes, resets and keeps after the fork
environment  HOME and its like, for workers of another account
snapshot     the code that they import, as it was when the supervisor started
leaving      the end of a worker's interpreter: threads, exit handlers, a deadline
zygote       the process that imports the application once and forks workers
zygote_spec  everything a zygote is told when it starts
double_fork  makes a zygote's workers children of the supervisor
"""
