"""The worker as a resource of OpenTelemetry: each process of a service gets an instance id of its own.

An SDK of the application reads `OTEL_RESOURCE_ATTRIBUTES`. Without an id there, the metrics of all workers would have
the same series. An id that the user has set stays.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

from hybrid.workers.contract.worker_spec import WorkerSpec

VARIABLE: Final = "OTEL_RESOURCE_ATTRIBUTES"
"""`key=value,key=value` (OpenTelemetry specification, resource SDK)."""
_KEY: Final = "service.instance.id"
_given: list[str] = []  # the attribute that this process, or the zygote that was a worker, has set


def identify(spec: WorkerSpec, variables: MutableMapping[str, str] = os.environ) -> None:
    """Add an instance id to the variables of this process, unless there is one.

    Call it before the application reads them. A zygote that was a worker has that worker's id, which is replaced.
    """
    attributes = [one for one in variables.get(VARIABLE, "").split(",") if one.strip() and one not in _given]
    if any(one.partition("=")[0].strip() == _KEY for one in attributes):
        return
    # letters, digits and -._@ need no escape there
    given = f"{_KEY}={spec.title}-{spec.slot}-{os.getpid()}@{os.uname().nodename}"
    _given[:] = [given]
    variables[VARIABLE] = ",".join((*attributes, given))
