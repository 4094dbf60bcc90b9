"""Runs CPython's own tests of sockets on hybrid's, in a separate process, and prints how each ended as JSON.

The file is `test/test_socket.py` of the running interpreter. In it `socket.socket` is ours; the tests run in a
greenlet of the loop that is named, and their clients in threads.

    python -P cpython_sockets.py epoll 0 4     prints {"Class.test": "ok", ...} for each fourth class, from the first

A distribution may leave the file out; the output is {} then.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import socket
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.sockets import Socket
from support import hub

SUITE = "test.test_socket"
NON_BLOCKING = "the descriptor is always non-blocking"
HANDLERS_RAISE = "an exception of a signal handler"
EXPECTED = {
    "NonBlockingTCPTests.testSetBlocking": NON_BLOCKING,
    "NonblockConstantTest.test_SOCK_NONBLOCK": NON_BLOCKING,
    "TestExceptions.test_setblocking_invalidfd": NON_BLOCKING,
}
"""Tests that must fail, and the row of the manual that says why."""
LEFT_OUT = {
    "NonBlockingTCPTests.testSetBlocking_overflow": NON_BLOCKING,  # Python 3.13 does not look at it any more
    "GeneralModuleTests.test_sendall_interrupted": HANDLERS_RAISE,
    "GeneralModuleTests.test_sendall_interrupted_with_timeout": HANDLERS_RAISE,
    "TCPTimeoutTest.testInterruptedTimeout": HANDLERS_RAISE,
    "InterruptedRecvTimeoutTest": HANDLERS_RAISE,
    "InterruptedSendTimeoutTest": HANDLERS_RAISE,
    "NetworkConnectionBehaviourTest": "",  # waits for 6 s to show that a plain timeout of 2 s does not pass
    "ThreadedVSOCKSocketStreamTest": "",  # these address families are not on every machine
    "BasicVSOCKTest": "",
}
"""Tests, or classes of them, that are not run: they would end the loop with the exception that they raise in it."""
_LONGEST = 60  # seconds a test may take before the stacks are shown and the process ends


def _flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flat(item)
        else:
            yield item


def _name(case: unittest.TestCase) -> str:
    return case.id().removeprefix(f"{SUITE}.")


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.partition(".")[0] in LEFT_OUT


class _Result(unittest.TestResult):
    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        faulthandler.dump_traceback_later(_LONGEST, exit=True)
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)


def _run(runtime: HubRuntime, first: int, step: int) -> dict[str, str]:
    try:
        module = importlib.import_module(SUITE)
    except ImportError:
        return {}

    class Ours(Socket):
        """Replaces `socket.socket` in the suite: the suite's threads have no runtime."""

        def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            super().__init__(family, type, proto, fileno, runtime)

        def accept(self) -> tuple[Ours, Any]:
            accepted, address = super().accept()
            return Ours(accepted.family, accepted.type, accepted.proto, accepted.detach()), address

    cases = list(_flat(unittest.defaultTestLoader.loadTestsFromModule(module)))
    classes = sorted({type(case).__name__ for case in cases})[first::step]
    chosen = [case for case in cases if type(case).__name__ in classes and not _is_left_out(_name(case))]
    result = _Result()
    original = socket.socket
    socket.socket = Ours  # type: ignore[misc]
    try:
        unittest.TestSuite(chosen).run(result)
    finally:
        socket.socket = original  # type: ignore[misc]
    outcomes = dict.fromkeys(map(_name, chosen), "ok")
    outcomes |= {_name(case): "skipped" for case, _ in result.skipped}
    outcomes |= {_name(case): text.strip().splitlines()[-1] for case, text in [*result.failures, *result.errors]}
    return outcomes


def main(loop: str, first: int, step: int) -> None:
    """Run the classes of one share, and print the outcomes."""
    hub.DEADLINE = 600.0  # type: ignore[misc]
    stdout, sys.stdout = sys.stdout, io.StringIO()
    outcomes = hub.in_greenlet(loop, lambda runtime: _run(runtime, first, step))
    stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
