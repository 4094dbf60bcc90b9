"""The decisions of a supervisor, pure: no I/O, no clock. A test forbids imports that would change that.

events        the inputs (events) and outputs (actions) of the machine
states        the states of a child, their transitions, and the reasons for a start
roles         workers, companions and zygotes: how slots are numbered, and the names of companions
table         the child in each slot; the only such list
policy        how long to wait: back-off, boot deadline, kill ladder, restart intensity
rollout       the plan derived from the table: workers to start and to retire
reasons       why a child is forked
base          shared state of the parts of the machine
attendance    the same for companions
lives         a child from its fork to its death
generations   zygotes and reloads
stalls        stalled loops
upgrades      another supervisor takes over
promotion     a warm worker becomes the next zygote
ending        the stop: connections are held, served and then refused
machine       one service: `step(event, now) -> actions`, with its parts the only writer of the table
dependencies  which service depends on which
tree          several services: the order of start and stop, failures, reloads in turn, one upgrade
status        the snapshot for clients that ask
"""
