"""What runs on Dask workers, without Dask: calls, their outcomes, and how they are interrupted."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.process import DEADLINE
from support.service import eventually

from hybrid.workers.contract.gateway_spec import GatewaySpec
from hybrid.workers.offload import remote
from hybrid.workers.offload.kinds import CALL, FAILED, RAISED, RESULT
from hybrid.workers.offload.packing import pack_call, unpack

needs_cloudpickle = pytest.mark.skipif(
    importlib.util.find_spec("cloudpickle") is None, reason="needs cloudpickle, which comes with Dask"
)


def call_of(function: Callable[..., Any], *args: Any) -> bytes:
    packed = pack_call(function, args, {})
    return remote.joined(CALL, (packed.pickle, *packed.buffers), is_dill=packed.is_dill)


def outcome(key: str, function: Callable[..., Any], *args: Any, most: int = 0) -> tuple[int, Any]:
    """Run a call in this thread; return kind and content of its outcome."""
    kind, packed, ran = remote.split(remote.run(key, call_of(function, *args), most))
    assert ran >= 0
    return kind, unpack(packed.pickle, packed.buffers, is_dill=packed.is_dill)


def fails(text: str) -> None:
    raise LookupError(text)


def fill(memory: bytearray) -> int:
    memory[0] = 1
    return len(memory)


def test_a_result_comes_back() -> None:
    assert outcome("a", sum, [1, 2]) == (RESULT, 3)


def test_a_closure_comes_with_dill() -> None:
    number = 41
    assert outcome("b", lambda: number + 1) == (RESULT, 42)


def test_an_error_comes_with_its_traceback() -> None:
    kind, (error, text) = outcome("c", fails, "lost")
    assert (kind, type(error), error.args) == (RAISED, LookupError, ("lost",))
    assert text.endswith("in fails\n    raise LookupError(text)\nLookupError: lost\n")


def test_a_result_above_the_limit_is_refused() -> None:
    kind, (text, _) = outcome("d", bytes, 1000, most=999)
    assert (kind, "--offload-max-result allows 999" in text) == (FAILED, True)


def test_memory_beside_the_pickle_can_be_written() -> None:
    packed = pack_call(fill, (pickle.PickleBuffer(bytearray(5000)),), {})
    assert packed.buffers, "it is not in the pickle"
    call = remote.joined(CALL, (packed.pickle, *packed.buffers), is_dill=packed.is_dill)
    kind, found, _ = remote.split(remote.run("e", call, 0))
    assert (kind, pickle.loads(found.pickle)) == (RESULT, 5000)


def test_a_call_that_was_cancelled_before_it_began_does_not_run() -> None:
    assert remote.interrupt("f", is_first=True) is False
    assert remote.run("f", call_of(fails, "it ran"), 0) == b""


def test_a_running_call_is_interrupted() -> None:
    outcomes: list[bytes] = []

    def spin() -> None:
        while True:
            pass

    thread = threading.Thread(target=lambda: outcomes.append(remote.run("g", call_of(spin), 0)))
    thread.start()
    eventually(lambda: "g" in remote._home().running, "it runs")
    assert remote.interrupt("g", is_first=True) is True
    thread.join(20)
    assert (outcomes, remote.interrupt("g", is_first=False)) == ([b""], False)


def test_an_interruption_at_the_end_of_a_call_does_not_come_after_it() -> None:
    """It was sent while the call returned its result."""

    class Late:
        def __reduce__(self) -> tuple[Any, ...]:  # when the result is packed
            remote.interrupt("late", is_first=True)
            return int, ()

    assert remote.run("late", call_of(Late), 0) == b""
    assert remote.run("next", call_of(sum, [1]), 0) != b""


def test_a_process_that_has_run_a_call_can_be_profiled() -> None:
    """Python 3.11 stands still forever there if an exception for a thread was taken back."""
    program = """
import sys
from hybrid.workers.offload import remote
from hybrid.workers.offload.kinds import CALL
from hybrid.workers.offload.packing import pack_call
packed = pack_call(sum, ([1, 2],), {})
assert remote.run("one", remote.joined(CALL, (packed.pickle, *packed.buffers), is_dill=packed.is_dill), 0)
sys.setprofile(lambda *news: None)
print((lambda: "profiled")())
"""
    found = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=DEADLINE)
    assert (found.stdout, found.stderr) == ("profiled\n", "")


@needs_cloudpickle
def test_a_process_without_hybrid_runs_a_call() -> None:
    """It has no module of ours: all code comes by value."""
    content = remote.content("h", call_of(divmod, 7, 2), 0)
    program = (
        "import pickle, sys; sys.modules['hybrid'] = None; data = sys.stdin.buffer.read(); "
        "sys.stdout.buffer.write(pickle.loads(data) and pickle.loads(data))"
    )
    found = subprocess.run([sys.executable, "-P", "-c", program], input=content, capture_output=True, check=True)
    kind, packed, _ = remote.split(found.stdout)
    assert (kind, pickle.loads(packed.pickle)) == (RESULT, (3, 1))


@needs_cloudpickle
def test_a_process_without_dill_says_that_a_closure_needs_it() -> None:
    number = 3
    content = remote.content("i", call_of(lambda: number), 0)
    program = (
        "import pickle, sys; sys.modules['hybrid'] = None; sys.modules['dill'] = None; "
        "sys.stdout.buffer.write(pickle.loads(sys.stdin.buffer.read()))"
    )
    found = subprocess.run([sys.executable, "-P", "-c", program], input=content, capture_output=True, check=True)
    kind, packed, _ = remote.split(found.stdout)
    text, _ = pickle.loads(packed.pickle)
    assert (kind, "pip install dill" in text) == (FAILED, True)


def test_the_spec_of_a_gateway_crosses_an_execution() -> None:
    spec = GatewaySpec(
        version="1",
        path=("a", "b"),
        title="web.dask",
        slot=0,
        name="hybrid: web.dask/0",
        generation=2,
        supervisor_pid=3,
        graceful_timeout=4.5,
        channel_fd=5,
        queue_fd=6,
        dump_fd=7,
        log_fd=2,
        log_format="text",
        log_level="info",
        scheduler="tcp://x:1",
        falls_back=True,
        max_result=8,
    )
    assert GatewaySpec.read(spec.to_fd()) == spec
