"""A zygote and its workers under a supervisor that does as a test says (`zygote_parent.py`, a process of its own)."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.process import DEADLINE, HybridProcess
from support.service import APPLICATIONS

_PROGRAM = Path(__file__).with_name("zygote_parent.py")


class ZygoteProcess:
    """The test's connection to the zygote's parent.

    Every wait has a deadline, and raises `AssertionError` with the reports so far.
    """

    def __init__(self, process: HybridProcess, line: socket.socket) -> None:
        self.process = process
        self._line = line
        self._line.settimeout(DEADLINE)
        self._lines = line.makefile("r")
        self._heard: list[dict[str, Any]] = []  # reports that were not waited for yet, oldest first
        first = self.wait("zygote")
        self.zygote: int = first["zygote"]
        self.addresses: list[str] = first["addresses"]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first address."""
        host, _, port = self.addresses[0].rpartition(":")
        return host, int(port)

    def order(self, **order: Any) -> None:
        """Send an order to the parent; `zygote_parent.py` lists them."""
        self._line.sendall(json.dumps(order).encode() + b"\n")

    def wait(self, *keys: str, **facts: Any) -> dict[str, Any]:
        """Wait for a line with these keys and facts, and return it; each is returned once."""
        while True:
            for item in self._heard:
                if item.keys() >= set(keys) and item.items() >= facts.items():
                    self._heard.remove(item)
                    return item
            try:
                line = self._lines.readline()
            except TimeoutError:
                line = ""
            assert line, f"never heard {keys} {facts}, but {self._heard}; stderr:\n{self.process.stderr}"
            self._heard.append(json.loads(line))

    def hears(self, sender: str | int, word: str) -> dict[str, Any]:
        """Wait until the zygote, or the worker of a slot, says a certain message."""
        return self.wait(**{"from": sender, "says": word})

    def spawn(self, slot: int = 0) -> int:
        """Have the zygote fork a worker and wait until it serves; return its pid."""
        self.order(spawn=slot)
        pid: int = self.hears(slot, "Forked")["pid"]
        self.hears(slot, "Ready")
        return pid

    def end_of(self, pid: int) -> tuple[int | None, str | None]:
        """Wait for the end of a child; return its exit code and the name of its signal."""
        item = self.wait(ended=pid)
        return item["code"], item["signal"]


@contextmanager
def zygote_process(
    target: str | None,
    cwd: Path,
    *,
    app: str | None = None,
    audit: bool = True,
    travels: bool = False,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    **options: Any,
) -> Iterator[ZygoteProcess]:
    """Start the parent of a zygote in `cwd`, with `app` as `app.py` if given.

    `options` are fields of `Service`; `prefix` is the beginning of the command line. At the end the parent exits, and
    all of its children must exit too.
    """
    if app is not None:
        (cwd / "app.py").write_text(app)
    ours, theirs = socket.socketpair()
    given = {"line": theirs.fileno(), "target": target, "audit": audit, "travels": travels, "options": options}
    process = HybridProcess(
        json.dumps(given),
        cwd=cwd,
        env={"PYTHONPATH": str(APPLICATIONS), "NOTES": str(cwd / "notes"), **(env or {})},
        pass_fds=[theirs.fileno()],
        executable=[*prefix, sys.executable, "-P", str(_PROGRAM)],
    )
    theirs.close()
    made = None
    try:
        made = ZygoteProcess(process, ours)
        yield made
        ours.shutdown(socket.SHUT_WR)
        process.wait()
    finally:
        if made is not None:
            made._lines.close()
        ours.close()
        outlived = process.close()
    assert not outlived, f"children outlived their supervisor: {outlived}"
