"""What `lifecycle` wants to know of each thing that may happen to a service under load."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.servers import Command
from benchmarks.service.httpload import Clients

CLIENTS = {  # how a table calls them -> who they are
    "kept": Clients(connections=32, anew=False),
    "anew": Clients(connections=32, anew=True),
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Something that happens, and its table."""

    name: str
    title: str
    """What is done, for the head of the table."""
    commands: list[Command]
    measure: Callable[[Command, Clients, float], Any]
    """Start the server, do it while the clients ask, for about so many seconds; return a sample, a dataclass."""
    columns: Sequence[str]
    cells: Callable[[list[Any]], list[str]]
    """The samples of all rounds of one server with one kind of clients -> what stands in the columns."""
