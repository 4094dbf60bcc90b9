"""What to run and how, checked as far as it can be without a supervisor. Knows no command line.

service            `Service`: everything, with the options about the process
http               its options about web applications
tls                its options about certificates
proxies            its options about proxies in front of it
life               its options about how workers come, stall and are replaced
declaring          how an option is declared; flag, variable, key, help and check follow from that
kinds              the kinds of values: what is allowed, and how a person writes one
texts              how text becomes a duration, a size, a limit, and back
checks             the error, ranges with units
restart_limit      how many restarts a supervisor bears
targets            what a service runs, named or given
travel             how a callable target gets into another process
cpus               how many cores this process may use
privileges         names and numbers of users and groups
certificates       the files of TLS, read and checked
certificate_check  the process that tries them out
"""
