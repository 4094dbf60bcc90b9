"""The access log: a line for each response.

log      writes the lines, without waiting
events   events of the connections, turned into records
record   one request and its response, as plain data
line     one line, in each of its forms
"""
