"""A FastAPI application of the size that services have: 60 resources, 300 routes, 180 models, and the usual imports.

It imports nothing that FastAPI has not brought along, but for the standard library.
"""

from __future__ import annotations

import concurrent.futures
import csv
import email.message
import html.parser
import http.client
import logging.config
import secrets
import sqlite3
import xml.etree.ElementTree
import zoneinfo
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, FastAPI, HTTPException, Query
from pydantic import BaseModel, Field, create_model

from benchmarks.applications.api_fastapi import app as orders
from benchmarks.applications.worker_header import TellsWorker

USUAL = (concurrent.futures, csv, email.message, html.parser, http.client, logging.config, secrets, sqlite3,
         xml.etree.ElementTree, zoneinfo)  # fmt: skip
RESOURCES = 60


class Draft(BaseModel):
    """What a client sends of any resource."""

    title: str = Field(min_length=1, max_length=80)
    note: str | None = Field(None, max_length=1000)
    price: Decimal = Field(gt=0, max_digits=10, decimal_places=2)
    quantity: int = Field(1, gt=0, le=1000)
    weight: float | None = Field(None, gt=0)
    tags: list[str] = []
    labels: dict[str, str] = {}
    available_from: datetime | None = None


class Stored(Draft):
    """What is kept of it."""

    id: UUID
    created: datetime


def _resource(number: int) -> APIRouter:
    """The five routes of a resource, with models of its own."""
    router = APIRouter(prefix=f"/resource{number}", tags=[f"resource {number}"])
    draft: Any = create_model(f"Draft{number}", __base__=Draft)
    stored: Any = create_model(f"Stored{number}", __base__=Stored)
    page: Any = create_model(f"Page{number}", items=(list[stored], ...), total=(int, ...))
    kept: dict[UUID, Any] = {}

    def find(key: UUID) -> Any:
        if key not in kept:
            raise HTTPException(404)
        return kept[key]

    async def listed(offset: int = Query(0, ge=0), limit: int = Query(20, ge=1, le=100)) -> Any:
        return page(items=list(kept.values())[offset : offset + limit], total=len(kept))

    async def created(body: Any) -> Any:
        one = stored(id=uuid4(), created=datetime.now().astimezone(), **body.model_dump())
        return kept.setdefault(one.id, one)

    async def changed(key: UUID, body: Any) -> Any:
        kept[key] = stored(id=key, created=find(key).created, **body.model_dump())
        return kept[key]

    async def shown(key: UUID) -> Any:
        return find(key)

    async def removed(key: UUID) -> None:
        del kept[find(key).id]

    for function in (created, changed):
        function.__annotations__["body"] = draft
    router.add_api_route("", listed, response_model=page)
    router.add_api_route("", created, methods=["POST"], response_model=stored, status_code=201)
    router.add_api_route("/{key}", shown, response_model=stored)
    router.add_api_route("/{key}", changed, methods=["PUT"], response_model=stored)
    router.add_api_route("/{key}", removed, methods=["DELETE"], status_code=204)
    return router


_service = FastAPI()
_service.include_router(orders.router)
for _number in range(RESOURCES):
    _service.include_router(_resource(_number))
app = TellsWorker(_service)
