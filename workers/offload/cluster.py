"""The connection of a gateway to a Dask cluster: made again when it is lost, and the calls that go over it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import pickle
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from hybrid.workers.offload import remote

_CONNECTS: Final = 5.0  # seconds for one try
_SETS_UP: Final = 15.0  # seconds for one try with all that follows the connection
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between two tries
_LOOKS: Final = 0.2  # seconds between two looks at an idle connection: Dask reports its loss to running calls only
_GIVES_UP: Final = 1.0  # seconds for a cancelled call to end
_CLOSES: Final = 2.0  # seconds to close a connection
_SCATTERED: Final = 1 << 20  # bytes; larger contents go to a worker directly, and not through the scheduler
_log = logging.getLogger("hybrid")


class CallLost(Exception):  # noqa: N818 - internal
    """The process that ran a call is gone; the text says how."""


class CallFailed(Exception):  # noqa: N818 - internal
    """A call has no outcome, for the reason in the text."""


class Cluster:
    """A Dask cluster. Belongs to one asyncio loop."""

    def __init__(self, scheduler: str, changed: Callable[[], None]) -> None:
        """`scheduler`: its address. `changed` is called when the connection is made or lost."""
        self.scheduler = scheduler
        self.trouble = ""
        """Why the scheduler cannot be reached, once that is known."""
        self.since = int(time.time())
        """Since when it is connected, or not; UNIX seconds."""
        self._changed = changed
        self._client: Any = None
        self._name = uuid.uuid4().hex
        self._count = 0
        self._futures: dict[str, Any] = {}  # key -> Dask's future of a call that runs

    @property
    def is_connected(self) -> bool:
        """True if calls can be passed on."""
        return self._client is not None

    async def keep(self) -> None:
        """Connect, and connect again whenever the connection is lost. Runs until it is cancelled."""
        try:
            import distributed

            from hybrid.workers.offload.once import Sent
        except Exception as error:  # noqa: BLE001 - of any module that it imports
            self._is_lost(f"Dask cannot be imported: {type(error).__name__}: {error}")
            return
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it says is said here
        tries = 0
        while True:
            client: Any = None
            try:
                async with asyncio.timeout(_SETS_UP):
                    client = distributed.Client(
                        self.scheduler,
                        asynchronous=True,
                        set_as_default=False,
                        timeout=_CONNECTS,
                        direct_to_workers=True,
                    )
                    await client
                    await client.register_plugin(Sent())
            except Exception as error:  # noqa: BLE001 - of Dask
                self._is_lost(f"{type(error).__name__}: {error}" if str(error) else f"no answer in {_SETS_UP:g} s")
            else:
                tries = 0
                self._is_made(client)
                try:
                    while client.status == "running":
                        await asyncio.sleep(_LOOKS)
                finally:
                    self._client = None
                self._is_lost("the connection was lost")
            await _close(client)
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    def _is_made(self, client: Any) -> None:
        self._client = client
        self.trouble, self.since = "", int(time.time())
        _log.info("connected to the Dask scheduler %s", self.scheduler)
        self._changed()

    def _is_lost(self, why: str) -> None:
        self._client = None
        why = " ".join(why.split())
        if not self.trouble:
            self.since = int(time.time())
            _log.warning("cannot reach the Dask scheduler %s: %s", self.scheduler, why)
        is_new = not self.trouble
        self.trouble = why
        if is_new:
            self._changed()

    def new_key(self) -> str:
        """Return the key of a task."""
        self._count += 1
        return f"hybrid-offload-{self._name}-{self._count}"

    async def run(self, key: str, call: bytes, most: int) -> bytes:
        """Run a call on the cluster; return its outcome, for `remote.split`.

        Raises `CallLost` if its worker is gone, `CallFailed` for other reasons. `stop` ends it early.
        """
        client = self._client
        if client is None:
            raise CallFailed(f"the Dask scheduler {self.scheduler} cannot be reached: {self.trouble}")
        try:
            content: Any = remote.content(key, call, most)
            if len(content) > _SCATTERED:
                content = await client.scatter(content, direct=True, hash=False)
            future = client.submit(pickle.loads, content, key=key, pure=False)
            self._futures[key] = future
            try:
                outcome: bytes = await future
            finally:
                del self._futures[key]
                future.release()
        except concurrent.futures.CancelledError as error:  # Dask has forgotten it
            raise self._loss_of(client, error) from None
        except Exception as error:  # Dask, or the code that travels, has failed
            raise self._reason_of(error) from error
        return outcome

    def _loss_of(self, client: Any, error: BaseException) -> Exception:
        if client.status != "running" or getattr(error, "reason", "") == "scheduler-connection-lost":
            text = f"the connection to the Dask scheduler {self.scheduler} was lost while it ran; it may go on"
            return CallFailed(text)
        return CallLost("its Dask worker left the cluster, or lost its data")

    def _reason_of(self, error: Exception) -> Exception:
        if type(error).__name__ == "KilledWorker":
            worker = getattr(getattr(error, "last_worker", None), "address", "")
            return CallLost(f"its Dask worker {worker} has died")
        return CallFailed(f"it could not run on the Dask cluster: {type(error).__name__}: {error}")

    async def stop(self, key: str) -> None:
        """End a call that nobody waits for; return once it has ended, or a second has passed."""
        client, future = self._client, self._futures.get(key)
        if client is None or future is None:
            return
        try:
            async with asyncio.timeout(_GIVES_UP):
                await self._stop(client, key, future)
        except TimeoutError:
            _log.warning("a cancelled call has not ended within %g s on the Dask cluster: it goes on there", _GIVES_UP)
        except Exception as error:  # noqa: BLE001 - its worker or the scheduler is gone, and the call with it
            _log.debug("a call could not be stopped: %s", error)

    async def _stop(self, client: Any, key: str, future: Any) -> None:
        where = await client.run_on_scheduler(remote.travelling(remote.place_of), key)
        await future.cancel()
        if not where:  # it waits, or has ended
            return
        interrupt = remote.travelling(remote.interrupt)
        pause = 0.005
        runs = await client.run(interrupt, key, is_first=True, workers=[where])
        while runs[where]:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)
            runs = await client.run(interrupt, key, is_first=False, workers=[where])


async def _close(client: Any) -> None:
    """Close a client, however it is."""
    if client is not None:
        with contextlib.suppress(Exception, TimeoutError):
            async with asyncio.timeout(_CLOSES):
                await client.close(timeout=_CLOSES / 2)
