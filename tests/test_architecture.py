"""Who may import whom: the rules of the house, read from the source, function-level imports included."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from support.rows import for_each

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"hybrid": ROOT / "hybrid", "hybrid.supervisor": ROOT / "supervisor", "hybrid.workers": ROOT / "workers"}
SIDES = ("hybrid.supervisor", "hybrid.workers")

# of the public package, these make up the composition root: they see both sides
ROOM_WITH_BOTH_SIDES = {
    *("hybrid.api", "hybrid.plan", "hybrid.plans", "hybrid.embedding", "hybrid.checking", "hybrid.loops"),
    "hybrid.checkup.collecting",
    *("hybrid.autoreload.watcher", "hybrid.autoreload.child"),
}
# what other modules of the public package may import from the sides
FROM_THE_SIDES = {
    "hybrid.cli.layers": {"hybrid.supervisor.upgrade.invocation"},
    "hybrid.config.certificate_check": {"hybrid.workers.http.settings", "hybrid.workers.accepting.tls"},
    "hybrid.config.certificates": {"hybrid.workers.http.settings"},
    "hybrid.config.service": {"hybrid.supervisor.upgrade.invocation"},
    "hybrid.config.admin": {"hybrid.workers.http.settings"},
    "hybrid.config.http": {"hybrid.workers.http.settings"},
    "hybrid.config.log_config": {"hybrid.workers.boot.application"},
    "hybrid.config.logs": {"hybrid.workers.http.settings"},
    "hybrid.config.proxies": {"hybrid.workers.http.settings"},
    "hybrid.config.tls": {"hybrid.workers.http.settings"},
    "hybrid.demonstration.app": {"hybrid.workers.identity"},
    "hybrid.demonstration.hints": {"hybrid.workers.contract.log"},
    "hybrid.autoreload.restarting": {"hybrid.workers.contract.exits", "hybrid.workers.contract.log"},
}

PURE = "hybrid.supervisor.core"
PURE_OF_THE_SEAM = {
    "hybrid.workers.contract.exits",
    "hybrid.workers.contract.messages",
    "hybrid.workers.contract.records",
    "hybrid.workers.contract.scoreboard",
}
IMPURE = {"os", "signal", "socket", "select", "selectors", "time", "logging", "threading", "subprocess", "random"}

SEAM = "hybrid.workers.contract"
# a room of the supervisor -> the rooms it may look into besides itself
ROOMS = {
    "core": set(),
    "listeners": {"settings"},
    "children": {"core", "listeners", "settings", "watch"},
    "watch": {"children", "core"},
    "upgrade": {"contact", "core", "listeners"},
    "contact": {"children", "core"},
    "control": {"listeners"},
    "settings": {"core", "listeners"},
    "deployment": {"core", "settings"},
    "revision": {"deployment"},
    "shell": {
        *("contact", "control", "children", "core", "deployment", "listeners", "revision", "settings", "upgrade"),
        "watch",
    },
}
# a package of others that the supervisor uses if it is installed -> the module that may import it
THIRD_PARTY_OF_SUPERVISOR = {"setproctitle": "hybrid.supervisor.children.titles"}
OPENERS = {"loop", "start"}  # modules that may look into all rooms
# the same for the workers; `body`, which is a worker's life from the spec to the exit code, looks into all
ROOMS_OF_WORKERS = {
    "contract": set(),
    "common": {"contract", "tasks"},
    "boot": {"common", "contract"},
    "pollers": set(),
    "tasks": set(),
    "runtime": {"common"},
    "hub": {"common", "pollers", "runtime", "tasks"},
    "streams": {"common", "hub", "pollers", "runtime", "tasks"},
    "loops": {"common", "contract", "hub", "pollers", "runtime", "streams", "tasks"},
    "accepting": {"common", "boot", "contract", "runtime"},
    "http": {"common", "contract"},
    "hooks": {"common", "contract", "runtime"},
    "inspection": {"common", "contract", "hub", "tasks"},
    "offload": {"common", "contract", "runtime", "tasks"},
    "apps": {"accepting", "common", "boot", "contract", "http", "runtime", "tasks"},
}
BODY = "body"
# modules of the workers that are in no folder, by their rooms
FLAT_OF_WORKERS = {
    BODY: {"companion", "main", "ordering_thread", "orders", "preload", "refork", "serving"},
    "common": {"identity"},
    "runtime": {"runtime"},
    "loops": {"green"},
}
# single modules of the workers that look into single modules of other rooms
BESIDES = {
    "hybrid.workers.boot.application": {"hybrid.workers.http.settings", "hybrid.workers.offload.settings"},
    "hybrid.workers.accepting.tls": {"hybrid.workers.http.settings"},
    "hybrid.workers.accepting.listening": {"hybrid.workers.apps.datagram"},
    "hybrid.workers.apps.asgi.interface": {"hybrid.workers.streams.drained"},
    "hybrid.workers.loops.gevent_loop": {"hybrid.workers.preload"},
    "hybrid.workers.runtime": {"hybrid.workers.hub.pool"},
}
# package of others that workers use -> the rooms that may import it
THIRD_PARTY_OF_WORKERS = {
    "gevent": {"loops"},
    "greenlet": {"common", "hooks", "hub", "apps", "inspection", "loops", "runtime"},
    "uvloop": {"loops"},
    "cloudpickle": {"offload"},
    "dill": {"boot", "offload"},
    "distributed": {"offload"},
    "multiprocess": {"offload"},
    "httptools": {"http"},
    "ngh2": {"http"},
    "websockets": {"http"},
}

# rooms of the public package -> the rooms they may look into besides themselves
ROOMS_OF_PUBLIC = {
    "config": set(),
    "demonstration": {"config"},
    "metrics": set(),
    "admin": {"console", "control", "metrics"},
    "api": {"admin", "config", "demonstration"},
    "autoreload": {"api", "config", "demonstration"},
    "control": set(),
    "console": {"control"},
    "checkup": {"api", "config"},
    "init": {"config"},
    "cli": {"api", "autoreload", "checkup", "config", "console", "control", "init", "metrics"},
}
# those that are no folders -> their modules
FLAT_OF_PUBLIC = {"api": {"", "api", "checking", "embedding", "loops", "plan", "plans"}, "cli": {"__main__"}}
# package of others that the public package uses -> the rooms that may import it
THIRD_PARTY_OF_PUBLIC = {
    "click": {"cli"},
    "dill": {"config"},
    "yaml": {"config"},
    "multiprocess": {"api"},
    "opentelemetry": {"metrics"},
    "requests": {"metrics"},
    "prometheus_client": {"admin", "metrics"},
    "rich": {"console"},
    "watchfiles": {"autoreload"},
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@functools.cache
def imports_of(module: str, source: str) -> tuple[Import, ...]:
    """Give every import of a source text, wherever it stands; those for type checkers only are passed over."""
    return tuple(_imports_of(module, source))


def _imports_of(module: str, source: str) -> Iterator[Import]:
    nodes = list(ast.walk(ast.parse(source)))
    for_types = {id(node) for guard in nodes if _is_type_guard(guard) for node in ast.walk(guard)}
    for node in nodes:
        if id(node) in for_types:
            continue
        match node:
            case ast.Import(names=names):
                yield from (Import(module, alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=None) | ast.ImportFrom(level=1 | 2 | 3):
                yield Import(module, f"{module}.(relative)", node.lineno)
            case ast.ImportFrom(module=str(home), names=names):
                for alias in names:
                    full = f"{home}.{alias.name}"
                    yield Import(module, full if full in MODULES else home, node.lineno)
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module")) if (
                node.args and isinstance(node.args[0], ast.Constant)
            ):
                yield Import(module, str(node.args[0].value), node.lineno)


def _is_type_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = file
    return found


MODULES = _modules()  # import name -> file


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_public(name: str) -> bool:
    return _is_in(name, "hybrid") and not any(_is_in(name, side) for side in SIDES)


def _top(name: str) -> str:
    return name.partition(".")[0]


def why_forbidden(item: Import) -> str | None:
    """Return the rule an import breaks; None if it breaks none."""
    importer, imported = item.importer, item.imported
    if imported.endswith(".(relative)"):
        return "imports are absolute"
    if _is_in(importer, PURE) and (_top(imported) in IMPURE or _is_impure_of_ours(imported)):
        return "the pure core of the supervisor does no input or output"
    if _is_in(importer, "hybrid.supervisor"):
        return _why_not_in_supervisor(importer, imported)
    if _is_in(importer, "hybrid.workers"):
        return _why_not_in_workers(importer, imported)
    return _why_not_in_public(importer, imported)


def _is_impure_of_ours(imported: str) -> bool:
    return _is_in(imported, "hybrid") and imported not in PURE_OF_THE_SEAM and not _is_in(imported, PURE)


def _why_not_in_supervisor(importer: str, imported: str) -> str | None:
    if _is_in(imported, "hybrid.supervisor"):
        return _why_not_into(_room(importer), _room(imported), ROOMS)
    if _is_in(imported, SEAM):
        return None
    if _top(imported) in sys.stdlib_module_names:
        return "the supervisor runs no event loop" if _top(imported) == "asyncio" else None
    if THIRD_PARTY_OF_SUPERVISOR.get(_top(imported)) == importer:
        return None
    return f"the supervisor imports the standard library, itself and {SEAM}"


def _why_not_into(here: str, there: str, rooms: dict[str, set[str]]) -> str | None:
    if here == there or there in rooms.get(here, {there}):
        return None
    return f"{here} does not look into {there}"


def _room(module: str) -> str:
    return module.removeprefix("hybrid.supervisor").lstrip(".").partition(".")[0]


def _room_of_workers(module: str) -> str:
    """Return the room of a module of the workers; that of one in no folder stands in the table, or is its own name."""
    first, _, inside = module.removeprefix("hybrid.workers").lstrip(".").partition(".")
    return first if inside or first in ROOMS_OF_WORKERS else _flat_room(first, FLAT_OF_WORKERS)


def _flat_room(name: str, rooms: dict[str, set[str]]) -> str:
    return next((room for room, names in rooms.items() if name in names), name)


def _room_of_public(module: str) -> str:
    """Return the room of a module of the public package, in the same way."""
    first, _, inside = module.removeprefix("hybrid").lstrip(".").partition(".")
    return first if inside or first in ROOMS_OF_PUBLIC else _flat_room(first, FLAT_OF_PUBLIC)


def _why_not_in_workers(importer: str, imported: str) -> str | None:
    allowed = SEAM if _is_in(importer, SEAM) else "hybrid.workers"
    here = _room_of_workers(importer)
    if _is_in(imported, allowed):
        is_beside = imported in BESIDES.get(importer, ())
        return None if is_beside else _why_not_into(here, _room_of_workers(imported), ROOMS_OF_WORKERS)
    if _top(imported) == "hybrid":
        return f"{allowed} imports nothing else of ours"
    if _top(imported) in sys.stdlib_module_names:
        return "the seam runs no event loop" if allowed == SEAM and _top(imported) == "asyncio" else None
    if here not in THIRD_PARTY_OF_WORKERS.get(_top(imported), ()):
        return "this package is none of those that may be used here"
    return None


def _why_not_in_public(importer: str, imported: str) -> str | None:
    here = _room_of_public(importer)
    if _is_public(imported):
        return _why_not_into(here, _room_of_public(imported), ROOMS_OF_PUBLIC)
    if any(_is_in(imported, side) for side in SIDES):
        if importer in ROOM_WITH_BOTH_SIDES or imported in FROM_THE_SIDES.get(importer, ()):
            return None
        return "only the composition root sees the two sides"
    if _top(imported) in sys.stdlib_module_names or here in THIRD_PARTY_OF_PUBLIC.get(_top(imported), ()):
        return None
    return "this package is none of those that may be used here"


@for_each("module", MODULES)
def test_a_module_imports_only_what_it_may(module: str) -> None:
    found = [(item, rule) for item in imports_of(module, MODULES[module].read_text()) if (rule := why_forbidden(item))]
    assert not found, "\n".join(f"{item}: {rule}" for item, rule in found)


def test_the_rules_look_at_modules_of_all_three_packages() -> None:
    """A wrong folder here would make every rule hold."""
    assert all(any(_is_in(name, package) for name in MODULES) for package in PACKAGES)
    assert {PURE} | ROOM_WITH_BOTH_SIDES | FROM_THE_SIDES.keys() <= MODULES.keys()
    assert {_room(name) for name in MODULES if _is_in(name, "hybrid.supervisor")} == {"", *OPENERS, *ROOMS}


def test_every_module_of_the_workers_and_of_the_public_package_has_a_room() -> None:
    """A new one that is in no folder is to be put into a table."""
    workers = {name: _room_of_workers(name) for name in MODULES if name.startswith("hybrid.workers.")}
    public = {name: _room_of_public(name) for name in MODULES if _is_public(name)}
    assert {name: room for name, room in workers.items() if room not in {BODY, *ROOMS_OF_WORKERS}} == {}
    assert {name: room for name, room in public.items() if room not in ROOMS_OF_PUBLIC} == {}


def test_the_tables_of_rooms_name_modules_that_there_are() -> None:
    flat = {f"hybrid.workers.{name}" for names in FLAT_OF_WORKERS.values() for name in names}
    flat |= {f"hybrid.{name}".rstrip(".") for names in FLAT_OF_PUBLIC.values() for name in names}
    beside = BESIDES.keys() | {name for names in BESIDES.values() for name in names}
    assert (flat | beside) - MODULES.keys() == set()


FORBIDDEN = [
    ("hybrid.supervisor.core.machine", "import time"),
    ("hybrid.supervisor.core.machine", "def step():\n    from os import fork"),
    ("hybrid.supervisor.core.machine", "from hybrid.supervisor.children import kernel"),
    ("hybrid.supervisor.core.machine", "from hybrid.workers.contract.channel import Channel"),
    ("hybrid.supervisor.listeners.group", "from hybrid.supervisor.children import kernel"),
    ("hybrid.supervisor.core.table", "from hybrid.supervisor.settings import Settings"),
    ("hybrid.supervisor.core.tree", "from hybrid.supervisor.deployment import Deployment"),
    ("hybrid.supervisor.deployment", "from hybrid.supervisor.listeners.estate import Estate"),
    ("hybrid.supervisor.listeners.estate", "from hybrid.supervisor.upgrade.inheritance import Inheritance"),
    ("hybrid.supervisor.children.handles", "from hybrid.supervisor.loop import Shell"),
    ("hybrid.supervisor.children.handles", "from hybrid.supervisor.shell.hearing import Hearing"),
    ("hybrid.supervisor.shell.hearing", "from hybrid.supervisor.loop import Shell"),
    ("hybrid.supervisor.loop", "import gevent"),
    ("hybrid.supervisor.loop", "import asyncio.events"),
    ("hybrid.supervisor.loop", "from hybrid.workers import main as entry"),
    ("hybrid.supervisor.loop", "import hybrid.workers.main"),
    ("hybrid.supervisor.loop", "from hybrid import api"),
    ("hybrid.supervisor.loop", "import hybrid"),
    ("hybrid.supervisor.loop", "__import__('uvloop')"),
    ("hybrid.supervisor.loop", "importlib.import_module('hybrid.workers.main')"),
    ("hybrid.supervisor.loop", "from . import table"),
    ("hybrid.workers.main", "from hybrid.supervisor.settings import Settings"),
    ("hybrid.workers.main", "if True:\n    import hybrid.config.service"),
    ("hybrid.workers.main", "import psutil"),
    ("hybrid.workers.contract.channel", "import greenlet"),
    ("hybrid.workers.contract.channel", "import asyncio"),
    ("hybrid.workers.contract.channel", "from hybrid.workers.common import errors"),
    ("hybrid.cli.commands", "from hybrid.supervisor.start import supervise"),
    ("hybrid.cli.commands", "import hybrid.workers.main"),
    ("hybrid.cli.commands", "import gevent"),
    ("hybrid.demonstration.app", "from hybrid.workers import main as entry"),
    ("hybrid.supervisor.watch.stall_detector", "from hybrid.supervisor.upgrade import wire"),
    ("hybrid.supervisor.upgrade.wire", "from hybrid.supervisor.children import kernel"),
    ("hybrid.supervisor.contact.control", "from hybrid.supervisor.listeners.group import Group"),
    ("hybrid.supervisor.control.server", "from hybrid.supervisor.children import kernel"),
    ("hybrid.supervisor.control.clients", "from hybrid.supervisor.core import status"),
    ("hybrid.supervisor.settings", "import hybrid.supervisor.children.kernel"),
    ("hybrid.workers.http.h1.connection", "from hybrid.workers.hub.loop import HubLoop"),
    ("hybrid.workers.http.h1.connection", "import hybrid.workers.loops.registry"),
    ("hybrid.workers.http.h1.connection", "def serve():\n    from hybrid.workers.apps import asgi"),
    ("hybrid.workers.http.h1.connection", "from hybrid.workers.runtime import Runtime"),
    ("hybrid.workers.http.h1.connection", "import uvloop"),
    ("hybrid.workers.apps.asgi.call", "from hybrid.workers.streams import write_transport"),
    ("hybrid.workers.apps.asgi.call", "from hybrid.workers.loops import registry"),
    ("hybrid.workers.apps.asgi.call", "import httptools"),
    ("hybrid.workers.hub.loop", "from hybrid.workers.http.h1.connection import HttpConnection"),
    ("hybrid.workers.hub.loop", "from hybrid.workers.loops import driver"),
    ("hybrid.workers.hub.sockets", "from hybrid.workers.streams.stream_socket import StreamSocket"),
    ("hybrid.workers.streams.tls_transport", "from hybrid.workers.loops import driver"),
    ("hybrid.workers.hub.loop", "import gevent"),
    ("hybrid.workers.loops.driver", "from hybrid.workers.apps import asgi"),
    ("hybrid.workers.green", "from hybrid.workers.http import head"),
    ("hybrid.workers.pollers.epoll", "from hybrid.workers.hub import watch"),
    ("hybrid.workers.tasks.parked", "from hybrid.workers.hub.loop import HubLoop"),
    ("hybrid.workers.hooks.life", "from hybrid.workers.boot.application import Application"),
    ("hybrid.workers.inspection.survey", "from hybrid.workers.apps import adapter"),
    ("hybrid.workers.offload.desk", "from hybrid.workers.boot import application"),
    ("hybrid.workers.runtime", "from hybrid.workers.hub.parking import Parking"),
    ("hybrid.workers.accepting.acceptor", "from hybrid.workers.http.h1.connection import HttpConnection"),
    ("hybrid.workers.boot.target", "from hybrid.workers import serving"),
    ("hybrid.workers.common.forks", "import hybrid.workers.accepting.acceptor"),
    ("hybrid.config.service", "from hybrid import plan"),
    ("hybrid.config.service", "import click"),
    ("hybrid.config.declaring", "import click"),
    ("hybrid.demonstration.hints", "from hybrid import api"),
    ("hybrid.plan", "import hybrid.autoreload.watcher"),
    ("hybrid.autoreload.changes", "def batches():\n    from hybrid.cli import flags as options"),
    ("hybrid.cli.commands", "import watchfiles"),
    ("hybrid.control.client", "from hybrid.console import safe"),
    ("hybrid.control.client", "import click"),
    ("hybrid.console.live", "from hybrid import api"),
    ("hybrid.console.top", "import click"),
    ("hybrid.checkup.judging", "from hybrid.supervisor.listeners import holders"),
    ("hybrid.checkup.collecting", "import click"),
    ("hybrid.init.searching", "from hybrid.cli import habits"),
    ("hybrid.metrics.declarations", "from hybrid.control import client"),
    ("hybrid.admin.app", "from hybrid.config.service import Service"),
    ("hybrid.admin.line", "from hybrid.workers.contract import log"),
    ("hybrid.init.writing", "import tomlkit"),
]


@for_each(("module", "source"), FORBIDDEN)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert any(why_forbidden(item) for item in imports_of(module, source))


def test_every_room_has_a_forbidden_import_in_the_table() -> None:
    rooms = {_room_of_workers(module) for module, _ in FORBIDDEN if _is_in(module, "hybrid.workers")}
    assert rooms == {BODY, *ROOMS_OF_WORKERS}
    assert {_room_of_public(module) for module, _ in FORBIDDEN if _is_public(module)} == ROOMS_OF_PUBLIC.keys()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hybrid.supervisor.loop", "import os\nfrom hybrid.workers.contract.worker_spec import WorkerSpec"),
        ("hybrid.supervisor.core.machine", "from hybrid.supervisor.core import table\nimport heapq"),
        ("hybrid.workers.main", "import asyncio\nfrom hybrid.workers.apps.detect import Kind"),
        (
            "hybrid.workers.http.h1.connection",
            "import hybrid.workers.common.connections\nimport httptools",
        ),
        ("hybrid.workers.hub.loop", "import greenlet\nfrom hybrid.workers.runtime import Runtime"),
        ("hybrid.workers.accepting.tls", "from hybrid.workers.http.settings import TlsSettings"),
        ("hybrid.api", "from hybrid.supervisor.start import supervise"),
        ("hybrid.cli.commands", "import click\nfrom hybrid import api"),
        ("hybrid", "if TYPE_CHECKING:\n    from hybrid.workers.green import spawn"),
    ],
)
def test_an_allowed_import_is_not_found(module: str, source: str) -> None:
    assert not [item for item in imports_of(module, source) if why_forbidden(item)]


# -- the application's side of a request knows no wire ----------------------------------------------------------------

WIRES = ("hybrid.workers.http.h1", "hybrid.workers.http.h2")
CONTRACT = "hybrid.workers.http.exchange"
APPLICATION_SIDE = ("hybrid.workers.apps.asgi", "hybrid.workers.apps.wsgi", "hybrid.workers.http.websocket")
# modules beside the wire -> what they still import of it; none is to be added
OF_THE_WIRE = {
    "hybrid.workers.apps.web": {"hybrid.workers.http.h1.connection"},  # opens the connections
    "hybrid.workers.http.context": {"hybrid.workers.http.h1.rules"},
    "hybrid.workers.http.wires": {"hybrid.workers.http.h1.connection", "hybrid.workers.http.h2.choice"},
}
# what asks more of a connection than a `Peer` has
ASKS_MORE = {
    "hybrid.workers.apps.wsgi.interface": "Served",
    "hybrid.workers.apps.wsgi.socket": "Upgraded",
    "hybrid.workers.http.websocket.session": "Upgraded",
}


def _is_of_a_wire(module: str) -> bool:
    return any(_is_in(module, wire) for wire in WIRES)


def test_what_stands_beside_the_wire_imports_of_it_what_the_table_says() -> None:
    found: dict[str, set[str]] = {}
    for module in MODULES:
        for item in imports_of(module, MODULES[module].read_text()):
            if _is_of_a_wire(item.imported) and not _is_of_a_wire(module):
                found.setdefault(module, set()).add(item.imported)
    assert found == OF_THE_WIRE


def _members_of(*protocols: str) -> set[str]:
    """Return the names that protocols of the contract give their objects."""
    classes = [node for node in ast.parse(MODULES[CONTRACT].read_text()).body if isinstance(node, ast.ClassDef)]
    nodes = [node for each in classes if each.name in protocols for node in each.body]
    names = {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return names | {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _asked_of(tree: ast.AST, *names: str) -> Iterator[tuple[int, str]]:
    """Give the attributes that a source asks of objects which it calls by one of these names, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2].lstrip("_") in names:
            yield node.lineno, node.attr


@pytest.mark.parametrize("module", [name for name in MODULES if any(_is_in(name, side) for side in APPLICATION_SIDE)])
def test_the_applications_side_asks_a_wire_for_what_the_contract_names(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    peer = _members_of("Peer", ASKS_MORE.get(module, "Peer"))
    found = [f"{line}: connection.{name}" for line, name in _asked_of(tree, "connection") if name not in peer]
    exchange = _members_of("Exchange")
    found += [f"{line}: exchange.{name}" for line, name in _asked_of(tree, "exchange") if name not in exchange]
    assert not found, f"{CONTRACT} does not name it:\n" + "\n".join(found)


def test_the_contract_has_members() -> None:
    """Without them nothing would be allowed, or everything be overlooked."""
    assert {"start", "stage", "send_file"} <= _members_of("Exchange")
    assert {"facts", "get_extra_info"} <= _members_of("Peer")
    assert "take_rest" not in _members_of("Peer")
    asked = [name for _, name in _asked_of(ast.parse("self._exchange.connection.paused"), "connection")]
    assert asked == ["paused"]


# -- private names of asyncio: a new CPython breaks one file ---------------------------------------------------------

PRIVATE_NAMES_ARE_IN = "hybrid.workers.tasks.cpython"
PRIVATE_NAMES_OF_A_BASE = {
    "hybrid.workers.streams.reader": "its reader *is* asyncio's: the methods of both use buffer, end and error",
    "hybrid.workers.streams.writer": "its writer *is* asyncio's, whose methods ask it for transport, protocol and loop",
}
"""Subclasses whose state is that of their base in asyncio. Aliases would only give it a second name."""


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _names_in(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the private names that a source text of asyncio defines, or looks for in the objects that it is given."""
    found = set()
    for node in nodes:
        match node:
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
    return {name for name in found if _is_private(name)}


@functools.cache
def _asyncio_nodes() -> list[ast.AST]:
    """All nodes of asyncio's sources. Not read at the import: every process that collects the tests imports this."""
    files = sorted(Path(asyncio.__file__).parent.glob("*.py"))
    return [node for file in files for node in ast.walk(ast.parse(file.read_text()))]


@functools.cache
def names_of_asyncio() -> frozenset[str]:
    return frozenset(_names_in(_asyncio_nodes()))


@functools.cache
def _classes_of_asyncio() -> dict[str, ast.ClassDef]:
    return {node.name: node for node in _asyncio_nodes() if isinstance(node, ast.ClassDef)}


def _names_of_class(name: str) -> set[str]:
    """Return the private names that a class of asyncio and its bases give their instances."""
    if name not in _classes_of_asyncio():
        return set()
    node = _classes_of_asyncio()[name]
    own = {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute) and _is_of_self(item.value)}
    own |= {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    bases = (_names_of_class(ast.unparse(base).rpartition(".")[2]) for base in node.bases)
    return {name for name in own if _is_private(name)}.union(*bases)


def private_names_of_asyncio(source: str) -> Iterator[tuple[int, str]]:
    """Give line and text of each private name of asyncio in a source text.

    A name counts in an object that is not `self`, unless the module gives its own objects an attribute of that name; in
    a string for `getattr` and its like; and in a subclass of a class of asyncio that has it.
    """
    nodes = list(ast.walk(ast.parse(source)))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_of_self(node.value)
    }
    own |= {"_exit", "_getframe", "_children"}  # of `os`, `sys`, `multiprocessing.process`
    for node in nodes:
        match node:
            case ast.Attribute(value=value, attr=name) if name in names_of_asyncio() and not _is_of_self(value):
                if name not in own or ast.unparse(value).startswith("asyncio"):
                    yield node.lineno, ast.unparse(node)
            case ast.ImportFrom(module=str(home), names=names) if _top(home) == "asyncio":
                yield from ((node.lineno, alias.name) for alias in names if _is_private(alias.name))
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ):
                if name in names_of_asyncio() - own:
                    yield node.lineno, name
            case ast.Constant(value="_asyncio_future_blocking"):
                yield node.lineno, str(node.value)
            case ast.Attribute(attr="_asyncio_future_blocking"):
                yield node.lineno, ast.unparse(node)
            case ast.ClassDef(bases=bases):
                inherited = set().union(
                    *(_names_of_class(name.partition("[")[0]) for base in bases for name in _of_asyncio(base))
                )
                yield from _uses(node, inherited)


def _of_asyncio(base: ast.expr) -> Iterator[str]:
    home, _, name = ast.unparse(base).partition("[")[0].rpartition(".")
    if home.startswith("asyncio"):
        # `SelectorEventLoop` is another name of a class
        yield name if _is_private(name) else getattr(asyncio, name).__name__


def _uses(node: ast.ClassDef, names: set[str]) -> Iterator[tuple[int, str]]:
    for item in ast.walk(node):
        match item:
            case ast.Attribute(value=value, attr=name) if name in names and _is_of_self(value):
                yield item.lineno, f"self.{name}"
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name in names:
                yield item.lineno, f"def {name}"


@for_each("module", MODULES.keys() - {PRIVATE_NAMES_ARE_IN} - PRIVATE_NAMES_OF_A_BASE.keys())
def test_private_names_of_asyncio_are_in_one_module(module: str) -> None:
    found = [f"{line}: {text}" for line, text in private_names_of_asyncio(MODULES[module].read_text())]
    assert not found, f"of asyncio, and so for {PRIVATE_NAMES_ARE_IN}:\n" + "\n".join(found)


@pytest.mark.parametrize("module", [PRIVATE_NAMES_ARE_IN, *PRIVATE_NAMES_OF_A_BASE])
def test_the_modules_with_private_names_of_asyncio_have_some(module: str) -> None:
    assert list(private_names_of_asyncio(MODULES[module].read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "from asyncio import _get_running_loop",
        "from asyncio.events import _set_running_loop",
        "asyncio.tasks._enter_task(loop, task)",
        "ready = loop._ready",
        "found = getattr(loop, '_ready', None)",
        "waits_for._asyncio_future_blocking = False",
        "self._asyncio_future_blocking = True",
        "class Own:\n    __slots__ = ('_asyncio_future_blocking',)",
        "class Loop(asyncio.SelectorEventLoop):\n    def _check_thread(self): ...",
        "class Reader(asyncio.StreamReader):\n    def size(self): return len(self._buffer)",
        "class Protocol(asyncio.StreamReaderProtocol):\n    def end(self): self._over.set_result(None)\n"
        "protocol._client_connected_cb = None",
    ],
)
def test_a_private_name_of_asyncio_is_found(source: str) -> None:
    assert list(private_names_of_asyncio(source))


@pytest.mark.parametrize(
    "source",
    [
        "os._exit(0)",
        "class Own:\n    def __init__(self, loop):\n        self._loop = loop\ndef of(own): return own._loop",
        "class Own(asyncio.Protocol):\n    def data_received(self, data): self._buffer += data",
        "asyncio.get_running_loop()",
    ],
)
def test_a_name_of_ours_is_not_taken_for_one_of_asyncio(source: str) -> None:
    assert not list(private_names_of_asyncio(source))


def test_there_is_no_cycle_of_modules() -> None:
    """Imports inside of functions do not count: they run when both modules are there."""
    graph = {name: set(_top_level_imports(name)) for name in MODULES}
    assert _cycle(graph) is None


def _top_level_imports(module: str) -> Iterator[str]:
    tree = ast.parse(MODULES[module].read_text())
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for item in imports_of(module, ast.unparse(node)):
                if item.imported in MODULES and item.imported != module:
                    yield item.imported


def _cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return one cycle of a graph, or None."""
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in finished:
            return None
        for following in sorted(graph.get(name, ())):
            if found := visit(following, [*path, name]):
                return found
        finished.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, []))), None)


def test_a_cycle_is_found() -> None:
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
