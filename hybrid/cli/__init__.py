"""The command `hybrid`.

commands     reads options, says what is wrong in one line, hands over
flags        options of click, made of the declarations in `hybrid.config`
modes        the options that are no part of a service: `--check`, `--reload`
headings     options under headings, and a command that shows them so
manual       the texts of `--help` around the options
habits       options of other servers, and the ones to type here
environment  secrets in the environment, taken out once read
"""

from hybrid.cli.commands import main

__all__ = ["main"]
