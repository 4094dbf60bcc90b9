"""The child of a reloading watcher: `python -m hybrid.autoreload.child FD` becomes the supervisor of an errand.

A fresh interpreter each time, so that nothing of the old code is left in memory; `hybrid.autoreload.watcher` starts it.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import socket
import sys
from contextlib import nullcontext

from hybrid.config.service import ConfigError, Service
from hybrid.config.targets import DEMONSTRATION
from hybrid.demonstration.guide import guided
from hybrid.plan import plan
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.start import supervise
from hybrid.workers.contract.exits import Exit


@dataclasses.dataclass(frozen=True, slots=True)
class Errand:
    """What the child is told. Descriptors keep their numbers on the way."""

    service: Service
    """All its addresses are `fd://`; they outlive the child."""
    arguments: tuple[str, ...]
    """`sys.argv` of the watcher: an application may look at it."""
    line: int
    """Descriptor of the control line: its end means that the watcher is gone."""

    def written(self) -> int:
        """Return a descriptor from which `read_errand` reads this errand; the caller closes it."""
        fd = os.memfd_create("hybrid-errand")
        os.write(fd, pickle.dumps(self))
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


def read_errand(fd: int) -> Errand:
    """Return the errand written to `fd`, which is closed."""
    with os.fdopen(fd, "rb") as file:
        errand: Errand = pickle.load(file)
    return errand


def run(errand: Errand) -> Exit:
    """Be the supervisor until it is stopped, or its watcher is gone; return how it ended. Blocks."""
    sys.argv[:] = errand.arguments
    os.set_inheritable(errand.line, False)
    control = Control(socket.socket(fileno=errand.line))
    intended = plan(errand.service, travels=False)
    intended.enter()
    with guided() if errand.service.target == DEMONSTRATION else nullcontext():
        return supervise(intended.settings, intended, control=control)


def main() -> int:
    """Run the errand that the command line names; return the exit code."""
    try:
        return int(run(read_errand(int(sys.argv[1]))))
    except ConfigError as error:  # what the watcher found good has changed since: a directory, an account
        sys.stderr.write(f"hybrid: error: {error}\n")
        return int(Exit.USAGE)


if __name__ == "__main__":
    # pickle names the class by this module's real name, and must not make a second one
    from hybrid.autoreload import child as reloaded

    sys.exit(reloaded.main())
