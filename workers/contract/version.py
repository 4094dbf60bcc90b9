"""The version of this package, for greetings and status. A test compares it with pyproject.toml.

Not `importlib.metadata`: a supervisor would import forty modules for it.
"""

VERSION = "0.1.0"
