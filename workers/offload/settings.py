"""How a service offloads calls."""

from __future__ import annotations

from hybrid.workers.contract.offload_queue import DEFAULT
from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class PoolSettings:
    """The limits of the calls that are offloaded to one pool."""

    name: str = DEFAULT
    timeout: float = 0.0
    """Seconds for a call that says nothing else; 0: no limit."""
    queue: int = 1024
    """Calls of one worker that may wait in it before `wait=False` is refused and threads and greenlets wait."""
    max_result: int = 0
    """Bytes of a result; 0: no limit."""
    max_tasks: int = 0
    """Calls after which an offload worker is replaced; 0: never."""
    max_memory: int = 0
    """Resident bytes after a call at which an offload worker is replaced; 0: never."""
    nice: int = 5
    """How much lower its priority is than that of the workers; see nice(2)."""

    def option(self, key: str) -> str:
        """Return an option as a person finds it: `--offload-queue`, or `queue of the pool ml`."""
        return f"--offload-{key.replace('_', '-')}" if self.name == DEFAULT else f"{key} of the pool {self.name}"


@record(frozen=True, slots=True)
class OffloadSettings:
    """The pools of a service."""

    pools: tuple[PoolSettings, ...] = ()
    """Their places are the numbers under which calls are counted."""

    def number_of(self, name: str) -> int | None:
        """Return the place of a pool; None if there is none of this name."""
        return next((number for number, pool in enumerate(self.pools) if pool.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all pools: that of calls which name none is always one."""
        return tuple(dict.fromkeys((DEFAULT, *(pool.name for pool in self.pools))))
