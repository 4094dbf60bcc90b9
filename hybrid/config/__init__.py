"""What to run and how, checked as far as it can be without a supervisor. Knows no command line.

service            `Service`: everything, with what is about the process
http               its part about web applications, TLS and proxies
life               its part about how workers come, stall and are replaced
checks             the errors, ranges with units, choices
restart_limit      how many restarts a supervisor bears
targets            what a service runs, named or given
travel             how a callable target gets into another process
cpus               how many cores this process may use
privileges         names and numbers of users and groups
certificates       the files of TLS, read and checked
certificate_check  the process that tries them out
"""
