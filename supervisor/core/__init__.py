"""The decisions of a supervisor, pure: no input, no output, no clock. A test forbids imports that would change it.

events       what can happen (inputs) and what can be done about it (actions)
states       the states of a child, and what each news does to them
table        which child sits in which slot; the only such list
policy       how long to wait: back-off, boot deadline, kill ladder, restart intensity
rollout      what is missing, too much or out of date, as a plan derived from the table
base         what the parts of the machine work on
lives        what happens to a worker, from its fork to its death
generations  zygotes and reloads
stalls       loops that stand still
upgrades     another supervisor takes over
promotion    a warm worker becomes the next zygote
ending       a stop: connections are held, served and then refused
machine      `step(event, now) -> actions`, with its parts the only writer of the table
status       the snapshot for clients that ask
"""
