"""The command `hybrid`.

entry             imports the part of the command that the command line needs
commands          parses options, reports errors in one line, calls `hybrid.api`
control_commands  the commands for a running supervisor, with their options
looking           the work of those that look: `status`, `top`, `stacks`
changing          the work of those that change something: `reload`, `scale`, `stop`
asking            how these find a supervisor
ending            how a command ends if it fails
layers            resolves each value of a run: flag, environment, file or default
showing           the output of `hybrid config`
flags             click options built from the declarations in `hybrid.config`
modes             options that are not part of a service: `--check`, `--reload`
sections          options grouped into sections of `--help`
help              the texts of `--help` around the options
habits            options and commands of other servers and their equivalents here
environment       removes secrets from the environment once they are read
variables         the environment, and the env files behind it
checks            what `hybrid check` checks
drafting          what `hybrid init` does: finds, writes, and says what it wrote
"""
