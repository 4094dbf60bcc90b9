"""An application of FastAPI's in the manner of its tutorial: validation, dependencies, files, WebSockets."""

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

from fastapi import (
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

NOTES = Path(os.environ["NOTES"])
app = FastAPI()


def note(line: str) -> None:
    with NOTES.open("a") as file:
        file.write(line + "\n")


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    tags: set[str] = set()
    tax: float | None = None


class Priced(BaseModel):
    name: str
    price_with_tax: float


async def connection() -> AsyncIterator[str]:
    """A resource for the time of a request, closed afterwards, whatever happens."""
    try:
        yield "connected"
    finally:
        note("closed")


def connection_in_a_thread() -> Iterator[str]:
    try:
        yield threading.current_thread().name
    finally:
        note("closed in a thread")


async def authorized(x_token: Annotated[str, Header()]) -> str:
    if x_token != "sesame":
        raise HTTPException(401, "X-Token is wrong")
    return x_token


@app.get("/items/{number}")
async def read_item(number: int, q: Annotated[str | None, Query(max_length=5)] = None, short: bool = False) -> dict:
    return {"number": number, "q": q, "short": short}


@app.post("/items", status_code=201)
async def create_item(item: Item) -> Priced:
    return Priced(name=item.name, price_with_tax=item.price + (item.tax or 0))


@app.get("/connected")
async def connected(found: Annotated[str, Depends(connection)], fail: bool = False) -> dict:
    if fail:
        raise HTTPException(418, "a teapot")
    return {"found": found}


@app.get("/in-a-thread")
def in_a_thread(found: Annotated[str, Depends(connection_in_a_thread)]) -> dict:
    """Run in anyio's pool of threads."""
    return {"dependency": found, "endpoint": threading.current_thread().name}


@app.get("/secret")
async def secret(token: Annotated[str, Depends(authorized)]) -> dict:
    return {"token": token}


@app.post("/notify/{email}", status_code=202)
async def notify(email: str, tasks: BackgroundTasks) -> dict:
    tasks.add_task(note, f"mail to {email}")
    return {"message": "sent in the background"}


@app.post("/files")
async def files(files: list[UploadFile]) -> list[tuple[str | None, int]]:
    return [(file.filename, len(await file.read())) for file in files]


@app.get("/cookie")
async def cookie(response: Response, count: Annotated[int, Cookie()] = 0) -> int:
    response.set_cookie("count", str(count + 1))
    return count


@app.get("/stream")
def stream() -> StreamingResponse:
    return StreamingResponse((f"line {number}\n" for number in range(100)), media_type="text/plain")


@app.get("/broken")
async def broken() -> None:
    raise LookupError("a broken page")


class Room:
    def __init__(self) -> None:
        self.members: list[WebSocket] = []

    async def broadcast(self, message: str) -> None:
        for member in self.members:
            await member.send_text(message)


room = Room()


@app.websocket("/chat/{client}")
async def chat(websocket: WebSocket, client: str) -> None:
    await websocket.accept()
    room.members.append(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_text(f"You wrote: {text}")
            await room.broadcast(f"{client} says: {text}")
    except WebSocketDisconnect:
        room.members.remove(websocket)
        await room.broadcast(f"{client} left the chat")
