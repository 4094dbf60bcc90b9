"""`python -m hybrid`: the same as the command `hybrid`."""

from __future__ import annotations

from hybrid.cli.entry import main

if __name__ == "__main__":
    main()
