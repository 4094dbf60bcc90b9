"""The child of a reloading watcher: `python -m hybrid.autoreload.child FD` becomes the supervisor of a `ChildSpec`.

`hybrid.autoreload.watcher` starts it as a fresh interpreter each time, so that no old code is left in memory.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import socket
import sys
from contextlib import nullcontext

from hybrid.config.service import ConfigError, Service
from hybrid.demonstration.hints import logging_hints
from hybrid.plans import Plans
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.start import supervise
from hybrid.workers.contract.exits import Exit


@dataclasses.dataclass(frozen=True, slots=True)
class ChildSpec:
    """The instructions for a child. The child inherits the descriptors under the same numbers."""

    service: Service
    """All its addresses are `fd://`; the sockets outlive the child."""
    arguments: tuple[str, ...]
    """`sys.argv` of the watcher, in case the application reads it."""
    control_fd: int
    """Descriptor of the control socket; EOF means that the watcher is gone."""

    def to_fd(self) -> int:
        """Write this spec to a memory file and return its descriptor, for `read_spec`; the caller closes it."""
        fd = os.memfd_create("hybrid-reload")
        os.write(fd, pickle.dumps(self))
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


def read_spec(fd: int) -> ChildSpec:
    """Return the spec in `fd`, and close it."""
    with os.fdopen(fd, "rb") as file:
        spec: ChildSpec = pickle.load(file)
    return spec


def run(spec: ChildSpec) -> Exit:
    """Be the supervisor until it is stopped or its watcher is gone; return the exit code. Blocks."""
    sys.argv[:] = spec.arguments
    os.set_inheritable(spec.control_fd, False)
    control = Control(socket.socket(fileno=spec.control_fd))
    intended = Plans.of([spec.service], travels=False)
    intended.enter()
    with logging_hints((spec.service.name,)) if spec.service.is_demonstration else nullcontext():
        return supervise(intended.deployment, control=control)


def main() -> int:
    """Run the spec in the descriptor that the command line names; return the exit code."""
    try:
        return int(run(read_spec(int(sys.argv[1]))))
    except ConfigError as error:  # a directory or an account has changed since the watcher checked it
        sys.stderr.write(f"hybrid: error: {error}\n")
        return int(Exit.USAGE)


if __name__ == "__main__":
    # pickle finds the class under this module's real name: do not define a second one in `__main__`
    from hybrid.autoreload import child as reloaded

    sys.exit(reloaded.main())
