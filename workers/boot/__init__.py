"""From the fork to an application that can serve.

application     the application as plain data
target          imports the application
audit           finds things in a process that do not survive a fork
native_threads  which threads of C libraries come back after a fork
dispositions    signal handlers of a worker, restored when the application has changed them
crash           writes the stacks of a crash in C code
capture         what the application prints, logs and warns of, as records of our log
app_metrics     has the application's prometheus_client write by seats
resource        the instance id of a worker for OpenTelemetry
log_config      configures `logging` before the import
stall           writes the stack of a stalled loop for the supervisor
heap            sets up malloc(3) for a server
"""
