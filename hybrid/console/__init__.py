"""What an operator sees of a running supervisor: its answers as lines, and the live table of `hybrid top`.

All but four modules are pure: values in, lines out. Nothing of a server reaches a terminal unescaped.

views        the status as objects, whatever fields it has
quantities   durations, sizes and shares as text
safe         text of a server, with control characters escaped
layout       lines, and tables that fit into a width
status_text  the lines of `hybrid status`
lists        the lines of `hybrid ps` and `hybrid stacks`
keys         what a terminal sends for a key
top          `hybrid top`: state and keys, and the lines for them
live         its loop: a supervisor, a terminal and `top`
terminal     the terminal: unbuffered keys, the alternate screen, signals, and everything as it was at the end
painting     lines to a stream, with colours if it is a terminal
progress     one line that tells how far a request is
"""
