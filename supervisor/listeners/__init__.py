"""The listening sockets of the services, and the distribution of new connections over the workers.

    addresses    the syntax of `--bind`
    binding      error messages for addresses that cannot be bound
    holders      the processes that hold an address in use
    group        the SO_REUSEPORT group of one TCP or UDP address, one member per slot
    members      opens the sockets of a group
    order        the index of each member in its group
    shared       UNIX sockets and passed descriptors: one socket for all slots
    sources      the socket of each address: opened, passed or inherited
    passing      the queues in which workers pass connections to siblings
    sockets      all listeners of a service
    estate       the listeners of all services: what a successor takes over, and what a predecessor left
    bpf          programs that the kernel runs for a socket
    handshakes   blocks new ones at a stop
    steering     selects the members of a group that get new connections

No module here forks or knows a child.
"""
