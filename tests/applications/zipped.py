"""Starlette's static files behind its GZipMiddleware."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

app = Starlette(
    routes=[Mount("/static", StaticFiles(directory=os.environ["NOTES"]))],
    middleware=[Middleware(GZipMiddleware, minimum_size=100)],
)
