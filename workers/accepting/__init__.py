"""From a listener to an accepted connection.

acceptor      accepts connections from one listener
listening     the listeners that a worker reads; detects broken ones
adoption      accepts from the listeners of other slots that the supervisor names
passing       passes connections to siblings that have fewer, and takes those of siblings
rebalancing   how many clients a worker sends away because it has far more than its siblings
recycle       when a worker is due for recycling: it reached its limit of requests, age or memory
tls           the context of TLS connections
server_names  chooses a certificate by server name
"""
