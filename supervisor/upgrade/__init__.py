"""Upgrades: a new execution of the program takes over the listening sockets, none of which is closed meanwhile.

    invocation   how this program was started
    handover     the old supervisor: executes the program again and passes the sockets
    inheritance  the new supervisor: takes the sockets
    wire         the messages between the two
    ledger       what the old supervisor's workers count, until its end
    succession   both sides, as the shell sees them

`core.upgrades` decides what each side does.
"""
