"""Hooks: functions of the application that a worker calls at certain moments of its life. Not imported without any.

registry   the functions that are registered, by hook; `hybrid.on`
loading    imports the module of `--hooks`
early      calls the hooks that run before there is a loop
calling    calls a function in the loop, with a deadline, and puts its error into words
life       the hooks of a worker while its loop runs: start, drain, stop
readiness  calls the ready checks again and again, and tells what has changed
"""
