"""The command `hybrid`.

commands         reads options, says what is wrong in one line, hands over
options_process  options for any target: what to serve, where, with how many processes
options_http     options for web applications
options_life     options about how workers come, stall and are replaced
options_reload   options for development
headings         options under headings, each with an environment variable
values           how text becomes a duration, a size, a count
manual           the texts of `--help`
habits           options of other servers, and the ones to type here
environment      secrets in the environment, taken out once read
"""

from hybrid.cli.commands import main

__all__ = ["main"]
