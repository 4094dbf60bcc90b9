"""The listening sockets of a service, and which workers the kernel gives new connections to.

    addresses    the syntax of `--bind`
    binding      why an address could not be bound, in words
    holders      which processes hold an address that is in use
    group        the SO_REUSEPORT group of one TCP or UDP address, one member per slot
    members      how the sockets of a group are opened
    order        at which index of its group each member is
    shared       UNIX sockets and passed descriptors: one socket for all slots
    sources      what becomes of each address: opened, passed or a predecessor's
    sockets      all listeners of a service
    bpf          programs that the kernel runs for a socket
    handshakes   no new ones at a stop
    steering     which members of a group get new connections

Nothing here forks or knows a child.
"""
