"""The configuration of a service, checked as far as possible without a supervisor. Independent of the command line.

service            `Service`: all options; those about the process are declared here
http               its options about web applications
logs               its options about the log and the access log
log_config         the file of `--log-config`, read as TOML, JSON or YAML
tls                its options about certificates
proxies            its options about proxies in front of it
life               its options about starting, stalling and recycling workers
hooks              its options about hooks of the application, and a program for events
tree               its options about its place among several services, and about programs
offload            its options about calls that leave the workers
admin              its options about those who watch it from outside
pools              `OffloadPool`: a pool of offload workers, as a value, as text, as a table of a file
companions         `Companion`: a function beside the workers, as a value, as text, as a table of a file
file               `hybrid.toml`: found, read, and checked against the declarations
env_file           env files: `KEY=VALUE` lines, parsed and read
shown              values as people may see them, without secrets
declaring          the declaration of an option, from which flag, variable, key, help and check follow
kinds              the kinds of values: allowed values and their form as text
texts              parsing and formatting of durations, sizes and limits
checks             the error, ranges with units
restart_limit      how many restarts a supervisor accepts
targets            targets: `module:attribute` or a callable
travel             how a callable target reaches another process
cpus               how many cores this process may use
memory             how much memory it may use
cgroups            the cgroups that limit it
privileges         names and numbers of users and groups
certificates       the TLS files, read and checked
certificate_check  the process that tries them out
"""
