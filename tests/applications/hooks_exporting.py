"""A hook that starts a thread in each worker, as exporters of metrics do."""

from __future__ import annotations

import threading
from typing import Any


def after_fork(worker: Any) -> None:
    threading.Thread(target=threading.Event().wait, name="exporter", daemon=True).start()
