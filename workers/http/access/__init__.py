"""The access log: a line for each answer.

log      where the lines go, without waiting
events   what connections tell of requests and answers
record   what is known of one answer
line     one line, in each of its forms
"""
