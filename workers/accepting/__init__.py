"""From a listener to an accepted connection.

acceptor      accepts connections from one listener
listening     the listeners that a worker reads; detects broken ones
adoption      accepts from the listeners of other slots that the supervisor names
recycle       when a worker is due for recycling: it reached its limit of requests, age or memory
tls           the context of TLS connections
server_names  chooses a certificate by server name
"""
