"""The children of a supervisor: workers and zygotes, from the fork to their end.

kernel        the interface to the operating system: fork, reap, kill, wait, signals, time
orphans       children that this process adopted
handles       a handle to each child: channel, record, dump file
call_book     how offloaded calls have ended, for each pool
remainders    what the dead workers of each slot had counted
label_book    what the requests of each label have cost, over all workers of a service
forking       forks children, directly or through a zygote, with their channels and records
spawn         what a child closes, resets and keeps after the fork
command       a child that executes another program, and the lines that it or a captured worker writes
offload_queues  the queues of offloaded calls, one for each generation and pool
gateway       the child that becomes a gateway to a Dask cluster: a fresh interpreter
log_files     the files of the log and of the access log, opened again on SIGUSR1
metric_files  the directories for metrics of the application, and the seats in them
titles        the titles of our processes, for ps(1)
environment   HOME, USER and LOGNAME of workers that run as another account
snapshot      the code of this package, as it was when the supervisor started
leaving       the end of a worker's interpreter: threads, exit handlers, a deadline
zygote        the process that imports the application once and forks workers
zygote_spec   everything a zygote is told when it starts
double_fork   makes a zygote's workers children of the supervisor
"""
