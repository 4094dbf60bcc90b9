"""A FastAPI application: validated input, and state that is set up once per worker. Needs `pip install fastapi`.

    hybrid run --bind 127.0.0.1:9000 examples.web_fastapi:app
    curl -d '{"name": "tea", "price": 3.5}' -H 'content-type: application/json' http://127.0.0.1:9000/items
    curl http://127.0.0.1:9000/items/tea

FastAPI itself runs `def` endpoints in threads and `async def` endpoints in the loop, as with every server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, PositiveFloat


class Item(BaseModel):
    """An item for sale."""

    name: str
    price: PositiveFloat


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Runs in every worker: before it is ready, and when it has drained. Open pools of connections here."""
    app.state.items = {}
    yield
    app.state.items.clear()


app = FastAPI(lifespan=lifespan)


@app.post("/items", status_code=201)
async def add(item: Item, request: Request) -> Item:
    """Keep an item, in this worker."""
    request.app.state.items[item.name] = item
    return item


@app.get("/items/{name}")
async def show(name: str, request: Request) -> Item:
    """Look one up."""
    found: Item | None = request.app.state.items.get(name)
    if found is None:
        raise HTTPException(404, f"no {name} here")
    return found
