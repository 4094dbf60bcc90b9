"""The command `hybrid`.

commands     parses options, reports errors in one line, calls `hybrid.api`
layers       resolves each value of a run: flag, environment, file or default
showing      the output of `hybrid config`
flags        click options built from the declarations in `hybrid.config`
modes        options that are not part of a service: `--check`, `--reload`
sections     options grouped into sections of `--help`
help         the texts of `--help` around the options
habits       options of other servers and their equivalents here
environment  removes secrets from the environment once they are read
"""

from hybrid.cli.commands import main

__all__ = ["main"]
