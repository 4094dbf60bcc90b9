"""The children of a supervisor: workers and zygotes, from the fork to their end.

kernel       the interface to the operating system: fork, reap, kill, wait, signals, time
orphans      children that this process adopted
handles      a handle to each child: channel, record, dump file
forking      forks children, directly or through a zygote, with their channels and records
spawn        what a child closes, resets and keeps after the fork
environment  HOME, USER and LOGNAME of workers that run as another account
snapshot     the code of this package, as it was when the supervisor started
leaving      the end of a worker's interpreter: threads, exit handlers, a deadline
zygote       the process that imports the application once and forks workers
zygote_spec  everything a zygote is told when it starts
double_fork  makes a zygote's workers children of the supervisor
"""
