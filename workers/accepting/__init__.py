"""From a listener to an accepted connection.

acceptor      when a connection is taken from a listener, and when not
listening     the listeners that a worker reads, and what may break them
adoption      accepts from the listeners of other slots that the supervisor names
recycle       when a worker is due for recycling: it reached its limit of requests, age or memory
tls           the context of TLS connections
server_names  chooses a certificate by the name of the host
"""
