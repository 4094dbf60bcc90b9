"""A FastAPI endpoint as people write them: path and query parameters, a validated body, a validated answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Query
from pydantic import BaseModel, Field

app = FastAPI()


class Order(BaseModel):
    """What a client sends."""

    product: str = Field(min_length=1, max_length=80)
    quantity: int = Field(gt=0, le=1000)
    unit_price: float = Field(gt=0)
    tags: list[str] = []


class Receipt(BaseModel):
    """What it gets back."""

    customer: int
    product: str
    total: float
    currency: str
    tags: list[str]


@app.post("/customers/{customer}/orders")
async def order(
    customer: Annotated[int, Path(ge=1)],
    body: Order,
    currency: Annotated[str, Query(pattern="^[A-Z]{3}$")] = "EUR",
    discount: Annotated[float, Query(ge=0, lt=1)] = 0.0,
) -> Receipt:
    """Compute the price."""
    total = round(body.quantity * body.unit_price * (1 - discount), 2)
    return Receipt(customer=customer, product=body.product, total=total, currency=currency, tags=body.tags)
