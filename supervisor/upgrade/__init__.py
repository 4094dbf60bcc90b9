"""An upgrade: the program is executed anew and takes over the listening sockets; nothing is closed in between.

    invocation   how this program was started
    handover     the program executed anew, with the sockets: the side of the old supervisor
    inheritance  the side of the new one
    wire         what the two tell each other
    succession   both sides, as the shell sees them

What either side does about it is decided in `core.upgrades`.
"""
