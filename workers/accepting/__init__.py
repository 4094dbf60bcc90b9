"""From a listener to an accepted connection.

acceptor      accepts connections from one listener
listening     the listeners that a worker reads; detects broken ones
adoption      accepts from the listeners of other slots that the supervisor names
wear          when a worker has served, lived or grown so much that another should take its place
tls           the context of TLS connections
server_names  chooses a certificate by server name
"""
