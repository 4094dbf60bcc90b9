"""The application of the suite `fastapi`, whose answers tell the process they are from."""

from __future__ import annotations

from benchmarks.applications.api_fastapi import app as endpoint
from benchmarks.applications.worker_header import TellsWorker

app = TellsWorker(endpoint)
