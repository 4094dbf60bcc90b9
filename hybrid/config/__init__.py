"""The configuration of a service, checked as far as possible without a supervisor. Independent of the command line.

service            `Service`: all options; those about the process are declared here
http               its options about web applications
tls                its options about certificates
proxies            its options about proxies in front of it
life               its options about starting, stalling and recycling workers
file               `hybrid.toml`: found, read, and checked against the declarations
declaring          the declaration of an option, from which flag, variable, key, help and check follow
kinds              the kinds of values: allowed values and their form as text
texts              parsing and formatting of durations, sizes and limits
checks             the error, ranges with units
restart_limit      how many restarts a supervisor accepts
targets            targets: `module:attribute` or a callable
travel             how a callable target reaches another process
cpus               how many cores this process may use
privileges         names and numbers of users and groups
certificates       the TLS files, read and checked
certificate_check  the process that tries them out
"""
