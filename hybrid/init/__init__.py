"""`hybrid init`: writes a `hybrid.toml` for the applications found here, or for the settings of another server.

searching      walks a directory, within bounds, and returns the candidates in its files, best first
candidates     the applications and handlers in the source of a module, found without running it
django         the project that a `manage.py` belongs to
drafts         what is to be written: services, their keys, and comments
choosing       the draft for the candidates that were found
sources        a file or a command line that `--from` names, as a draft
command_lines  the words of another server's command line
gunicorn_file  a `gunicorn.conf.py`, read without running it
expressions    values of expressions in such a file
procfile       a `Procfile`: each process type is a service
translating    the options of another server as keys of a service: a rule for each that means something else
translation    the service in the making
servers        the options that other servers have
equivalents    options of other servers, and hybrid's
writing        a draft as the text of a `hybrid.toml`, and the file itself
"""
