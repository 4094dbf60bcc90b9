"""hybrid as a library: a `Supervisor` in a child process of a test, and of scripts of every kind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from support.clients import ask, connected
from support.loops import LOOPS
from support.process import DEADLINE, HybridProcess
from support.service import eventually

import hybrid
from hybrid import Exit, Service, StartError, Supervisor

MOST = 65536  # bytes at a time


def address_of(supervisor: Supervisor) -> tuple[str, int]:
    host, _, port = supervisor.addresses[0].rpartition(":")
    return host, int(port)


def service_of(target: str | Callable[..., object], **values: object) -> Service:
    """A service on any port of the loopback, with one worker and little to read in the log."""
    options: dict[str, object] = {"bind": "127.0.0.1:0", "workers": 1, "log_level": "warning", **values}
    return Service(target, **options)  # type: ignore[arg-type]


def echo(sock: socket.socket, address: object) -> None:
    while data := sock.recv(MOST):
        sock.sendall(data)


class Multiplier:
    """A handler with state of its own."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, sock: socket.socket, address: object) -> None:
        sock.sendall(sock.recv(100) * self.factor)


@pytest.fixture(scope="module")
def lines() -> Iterator[Supervisor]:
    """A service with two workers, for tests that leave it as it is."""
    with Supervisor(service_of(echo, workers=2, name="lines")) as running:
        yield running


# --- what travels


@pytest.mark.parametrize("loop", LOOPS)
def test_a_closure_serves_on_every_loop(loop: str) -> None:
    greeting = b"hello "

    def handle(sock: socket.socket, address: object) -> None:
        sock.sendall(greeting + sock.recv(100))

    with Supervisor(service_of(handle, loop=loop)) as running:
        assert ask(address_of(running), b"you") == b"hello you"


def test_a_function_of_this_module_serves(lines: Supervisor) -> None:
    """A test module has a name here that no other process can import. The function takes a constant of it along."""
    assert ask(address_of(lines), b"abc") == b"abc"


def test_an_object_with_state_serves() -> None:
    with Supervisor(service_of(Multiplier(3))) as running:
        assert ask(address_of(running), b"ab") == b"ababab"


def test_an_async_closure_serves() -> None:
    suffix = b"!"

    async def handle(reader: object, writer: object) -> None:
        writer.write(await reader.readline() + suffix)  # type: ignore[attr-defined]
        writer.close()  # type: ignore[attr-defined]

    with Supervisor(service_of(handle)) as running:
        assert ask(address_of(running), b"hey\n") == b"hey\n!"


def test_a_reference_serves() -> None:
    with Supervisor(service_of("hybrid.demonstration.app:handle", name="demo")) as running:
        answer = ask(address_of(running), b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b'"service": "demo", "slot": 0' in answer


def test_an_inherited_descriptor_is_served_under_whatever_number_it_gets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = service_of(echo, bind=f"fd://{listener.fileno()}")
        with Supervisor(service):
            assert ask(listener.getsockname(), b"x") == b"x"


# --- what can be asked


def test_the_status_names_every_worker(lines: Supervisor) -> None:
    status = lines.status()
    names = {child.pid: child.name() for child in psutil.Process(lines.pid).children()}
    assert status.service == "lines"
    assert status.addresses == lines.addresses
    assert [(worker.slot, worker.state, worker.restarts) for worker in status.workers] == [
        (0, "ready", 0),
        (1, "ready", 0),
    ]
    assert {worker.pid for worker in status.workers} == {pid for pid, name in names.items() if name != "hybrid-zygote"}


def test_scaling_returns_when_it_is_reached() -> None:
    with Supervisor(service_of(echo, workers=1)) as running:
        running.scale(2)
        assert [worker.state for worker in running.status().workers] == ["ready"] * 2
        running.scale(1)
        assert [worker.slot for worker in running.status().workers] == [0]
        assert ask(address_of(running), b"x") == b"x"


def test_scaling_to_none_is_refused(lines: Supervisor) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        lines.scale(0)


def test_it_can_be_asked_from_several_threads(lines: Supervisor) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(lines.status().service)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == ["lines"] * 8


# --- how it ends


def test_stop_says_how_it_ended_and_says_so_again_if_it_is_asked_twice() -> None:
    with Supervisor(service_of(echo)) as running:
        assert running.stop() is Exit.OK
        assert running.stop() is Exit.OK


def test_an_immediate_stop_waits_for_no_connection() -> None:
    with Supervisor(service_of(echo)) as running, connected(address_of(running)) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert running.stop(graceful=False) is Exit.KILLED


def test_a_supervisor_that_does_not_end_in_time_is_killed_with_its_workers() -> None:
    with Supervisor(service_of(echo)) as running:
        worker = psutil.Process(running.status().workers[0].pid)
        os.kill(running.pid, signal.SIGSTOP)
        assert running.stop(timeout=0.1) is Exit.KILLED
        worker.wait(DEADLINE)


def test_an_error_in_the_block_stops_the_service_and_gets_out() -> None:
    pids = []

    def fail_inside() -> None:
        with Supervisor(service_of(echo)) as running:
            pids.append(running.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not psutil.pid_exists(pids[0])


def test_a_supervisor_that_has_died_is_a_connection_error() -> None:
    with Supervisor(service_of(echo)) as running:
        worker = psutil.Process(running.status().workers[0].pid)
        os.kill(running.pid, signal.SIGKILL)
        worker.wait(DEADLINE)
        with pytest.raises(ConnectionError):
            running.status()


def test_nothing_is_left_after_the_block_and_it_can_be_started_again() -> None:
    supervisor = Supervisor(service_of(echo, workers=2))
    for _ in range(2):
        with supervisor as running:
            assert ask(address_of(running), b"again") == b"again"
            pids = [running.pid, *(worker.pid for worker in running.status().workers)]
        assert not [pid for pid in pids if pid is not None and psutil.pid_exists(pid)]


def test_it_cannot_be_started_twice_at_once(lines: Supervisor) -> None:
    with pytest.raises(RuntimeError, match="running already"), lines:
        pass


def test_asking_one_that_does_not_run_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(RuntimeError, match="with Supervisor"):
        Supervisor(service_of(echo)).status()


# --- how a start fails


def test_a_target_that_is_not_there_fails_the_start_with_reason_and_code() -> None:
    with (
        pytest.raises(StartError, match="no_such_module_anywhere") as caught,
        Supervisor(service_of("no_such_module_anywhere:handle", log_level="error")),
    ):
        pass
    assert caught.value.code is Exit.TARGET


def test_an_address_in_use_fails_the_start_with_reason_and_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = service_of(echo, bind=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StartError, match="address already in use") as caught, Supervisor(service):
            pass
    assert caught.value.code is Exit.BIND


def test_a_start_that_takes_too_long_is_given_up() -> None:
    class Slow:
        def __reduce__(self) -> tuple[object, ...]:
            return signal.pause, ()

        def __call__(self, sock: object, address: object) -> None: ...

    with (
        pytest.raises(StartError, match=r"not ready within 0\.5 s") as caught,
        Supervisor(service_of(Slow()), start_timeout=0.5),
    ):
        pass
    assert caught.value.code is Exit.BOOT


@pytest.mark.parametrize(
    ("values", "field"),
    [({"bind": "nonsense"}, "bind"), ({"loop": "epol"}, "loop"), ({"user": "no-such-user"}, "user")],
)
def test_what_cannot_be_is_said_before_anything_starts(values: dict[str, str], field: str) -> None:
    with pytest.raises(hybrid.ConfigError) as caught:
        Supervisor(service_of(echo, **values))
    assert caught.value.field == field


def test_a_target_that_cannot_travel_is_said_before_anything_starts() -> None:
    generator = (number for number in range(3))
    with (
        pytest.raises(hybrid.ConfigError, match="cannot be sent to a worker"),
        Supervisor(service_of(lambda sock, address: generator)),
    ):
        pass


def test_run_outside_of_the_main_thread_says_what_to_use() -> None:
    errors: list[str] = []

    def attempt() -> None:
        try:
            Supervisor(service_of(echo)).run()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(DEADLINE)
    assert "main thread" in errors[0]


def test_run_inside_a_running_loop_says_what_to_use() -> None:
    import asyncio

    async def attempt() -> None:
        Supervisor(service_of(echo)).run()

    with pytest.raises(RuntimeError, match="running asyncio loop"):
        asyncio.run(attempt())


# --- scripts that embed


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., HybridProcess]]:
    """Run a script of its own as a process; nothing of it may outlive it."""
    started: list[HybridProcess] = []

    def start(code: str, *arguments: str, name: str = "script.py") -> HybridProcess:
        (tmp_path / name).write_text(code)
        started.append(HybridProcess(*arguments, cwd=tmp_path, executable=[sys.executable, name]))
        return started[-1]

    yield start
    assert not [pid for process in started for pid in process.close()]


# not signal.pause(): a signal that comes right before it would be waited for in vain
PAUSE = "import time; [time.sleep(0.05) for _ in iter(int, 1)]"
REPLY = "def handle(sock, address): sock.sendall(reply(sock.recv(100)))\n"
SCRIPT = """
import os, sys
import hybrid
PREFIX = b"main says "

class Reply:
    def __init__(self, data): self.data = data
    def text(self): return PREFIX + self.data

def handle(sock, address):
    sock.sendall(Reply(sock.recv(100)).text())

if __name__ == "__main__":
    service = hybrid.Service(handle, bind="127.0.0.1:0", workers=1)
    with hybrid.Supervisor(service) as running:
        sys.stderr.write(f"supervisor {running.pid}\\n")  # in one piece: others write there, too
        END
    sys.stderr.write("left the block\\n")
"""


def test_the_script_is_not_imported_into_the_supervisor(script: Callable[..., HybridProcess]) -> None:
    """It could do anything there: here it has patched everything, as gevent's users do.

    Without a guard it would start a service there, too.
    """
    code = "from gevent import monkey; monkey.patch_all()\nprint('imported', __name__, flush=True)\n"
    process = script(code + SCRIPT.replace('if __name__ == "__main__":', "if True:").replace("END", "pass"))
    assert process.wait() == 0
    assert process.stdout == "imported __main__\n"
    assert len(re.findall(r"^supervisor", process.stderr, re.MULTILINE)) == 1
    assert "Traceback" not in process.stderr


def test_the_death_of_the_embedder_ends_the_service(script: Callable[..., HybridProcess]) -> None:
    process = script(SCRIPT.replace("END", PAUSE))
    supervisor = psutil.Process(int(process.wait_for_log(r"supervisor (\d+)")[1]))
    workers = supervisor.children()
    process.signal(signal.SIGKILL)
    for each in (*workers, supervisor):
        each.wait(DEADLINE)
    process.wait_for_log("stopped")


def test_an_embedder_that_leaves_without_a_stop_ends_the_service(script: Callable[..., HybridProcess]) -> None:
    enter = "running = hybrid.Supervisor(service).__enter__()\n    if True:"
    process = script(SCRIPT.replace("with hybrid.Supervisor(service) as running:", enter).replace("END", "pass"))
    assert process.wait() == 0
    process.wait_for_log("stopped")


def test_a_forked_child_of_the_embedder_keeps_no_service_alive(script: Callable[..., HybridProcess]) -> None:
    """The child inherits the socket to the supervisor, which would never see its EOF."""
    fork = "import signal; child = os.fork(); sys.stderr.write(f'child {child}\\n'); signal.pause()"
    process = script(SCRIPT.replace("END", fork))
    supervisor = psutil.Process(int(process.wait_for_log(r"supervisor (\d+)")[1]))
    child = int(process.wait_for_log(r"child ([1-9]\d*)")[1])
    process.signal(signal.SIGKILL)
    supervisor.wait(DEADLINE)
    os.kill(child, signal.SIGKILL)


def test_functions_and_classes_of_a_script_serve_until_an_interrupt_in_the_block(
    script: Callable[..., HybridProcess],
) -> None:
    process = script(SCRIPT.replace("END", PAUSE))
    process.wait_for_log(r"supervisor (\d+)")
    assert ask(process.address, b"hi") == b"main says hi"
    process.signal(signal.SIGINT)
    assert process.wait() != 0
    process.wait_for_log("stopped")


def test_a_second_interrupt_does_not_wait_for_connections(script: Callable[..., HybridProcess]) -> None:
    waits = "sock.recv(100) + (sock.sendall(b'?') or sock.recv(100))"
    process = script(SCRIPT.replace("sock.recv(100)", waits).replace("END", PAUSE))
    process.wait_for_log(r"supervisor (\d+)")
    with connected(process.address) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"?"
        process.signal(signal.SIGINT)
        process.wait_for_log("draining 1 connection")
        process.signal(signal.SIGINT)
        assert process.wait() != 0
    process.wait_for_log("stopped")


def test_an_embedder_that_ignores_its_children_can_stop_too(script: Callable[..., HybridProcess]) -> None:
    """The kernel reaps the supervisor then: how it ended is known from its last words."""
    end = "sys.stderr.write(f'ended {running.stop().name}\\n')"
    process = script("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n" + SCRIPT.replace("END", end))
    process.wait_for_log("ended OK")
    assert process.wait() == 0


def test_a_supervisor_that_is_killed_while_its_embedder_ignores_children_has_not_ended_well(
    script: Callable[..., HybridProcess],
) -> None:
    end = "import os; os.kill(running.pid, 9); sys.stderr.write(f'ended {running.stop().name}\\n')"
    process = script("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n" + SCRIPT.replace("END", end))
    process.wait_for_log("ended ERROR")
    assert process.wait() == 0


def test_a_status_is_answered_while_a_scaling_lasts() -> None:
    """The worker that is to go has an open connection, so the scaling waits for its drain."""
    service = service_of(echo, workers=2, graceful_timeout=20)
    with Supervisor(service) as running, ThreadPoolExecutor() as threads, ExitStack() as stack:

        def have_connections() -> bool:
            sock = stack.enter_context(connected(address_of(running)))
            sock.sendall(b"?")
            assert sock.recv(1) == b"?"  # accepted; before, a worker counts what another passes on to it
            return all(row.active for row in running.status(timeout=DEADLINE).workers)

        eventually(have_connections, "each worker has a connection")
        scaling = threads.submit(running.scale, 1)
        states = set[str]()
        while "draining" not in states:
            states = {row.state for row in running.status(timeout=DEADLINE).workers}
        assert not scaling.done()
        stack.close()
        scaling.result(DEADLINE)


@pytest.mark.parametrize("workers", [2.5, "2", None])
def test_a_number_of_workers_that_is_none_is_refused_at_once(lines: Supervisor, workers: object) -> None:
    with pytest.raises(TypeError, match="use a whole number, at least 1"):
        lines.scale(workers)  # type: ignore[arg-type]
    assert len(lines.status().workers) == 2


def test_a_function_of_a_module_that_was_loaded_in_an_odd_way_travels(
    script: Callable[..., HybridProcess], tmp_path: Path
) -> None:
    """As plug-in systems and test runners load them: by file, under a name that `import` does not find."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file.py").write_text("word = b'odd '\n" + "def reply(data): return word + data\n" + REPLY)
    load = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('plugins.odd', 'elsewhere/file.py')\n"
        "odd = sys.modules['plugins.odd'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(odd)\n"
    )
    code = load + SCRIPT.replace("Service(handle", "Service(odd.handle").replace("END", PAUSE)
    process = script(code)
    process.wait_for_log(r"supervisor (\d+)")
    assert ask(process.address, b"x") == b"odd x"


def test_run_makes_the_script_itself_the_supervisor(script: Callable[..., HybridProcess]) -> None:
    code = (
        "import hybrid, sys\n"
        "word = b'inline '\n"
        "handle = lambda sock, address: sock.sendall(word + sock.recv(9))\n"
        "service = hybrid.Service(handle, bind='127.0.0.1:0', workers=1)\n"
        "sys.exit(hybrid.Supervisor(service).run())\n"
    )
    process = script(code).wait_serving()
    assert ask(process.address, b"x") == b"inline x"
    assert process.stop() == 0


def test_it_works_under_pytest_xdist(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(
        "import socket, hybrid\n"
        "import pytest\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_inner(number):\n"
        "    reply = b'inner'\n"
        "    service = hybrid.Service(lambda sock, address: sock.sendall(reply), bind='127.0.0.1:0', workers=1)\n"
        "    with hybrid.Supervisor(service) as running:\n"
        "        host, port = running.addresses[0].split(':')\n"
        "        with socket.create_connection((host, int(port)), 10) as sock:\n"
        "            assert sock.recv(9) == reply\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "xdist", "-n", "2", "test_inner.py"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the others take longer than the test
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- applications of frameworks, made in the script that embeds them

GET = "urllib.request.urlopen('http://' + running.addresses[0] + {path!r}).read().decode()"
EMBED = """
if __name__ == "__main__":
    import urllib.request
    import hybrid
    with hybrid.Supervisor(hybrid.Service(app, bind="127.0.0.1:0", workers=1, log_level="error")) as running:
        print({get}, flush=True)
"""
FASTAPI = """
from fastapi import FastAPI
from pydantic import BaseModel
class Item(BaseModel):
    name: str
app = FastAPI()
app.state.word = "kept"
@app.get("/")
def index() -> Item:
    return Item(name=app.state.word)
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
class Greeting:
    word = "hello"
async def index(request):
    return PlainTextResponse(f"{Greeting.word} {request.app.state.name}")
app = Starlette(routes=[Route("/", index)])
app.state.name = "you"
"""
FLASK = """
import threading
from flask import Flask
app = Flask("mine")
lock = threading.Lock()
@app.get("/")
def index():
    with lock:
        return "locked"
"""
HOLDING = """
import socket
class Application:
    def __init__(self):
        self.socket = socket.socket()
    def __call__(self, environ, start_response):
        start_response("200 OK", [])
        return [b"socket %d" % (self.socket.fileno() > 2)]
app = Application()
"""
MADE_HERE = {
    "fastapi": ("in the script", FASTAPI, '{"name":"kept"}'),
    "starlette": ("in a module", STARLETTE, "hello you"),
    "flask": ("in the script", FLASK, "locked"),
    "an open socket": ("in the script", HOLDING, "socket 1"),
    "an open socket of a module": ("in a module", HOLDING, "socket 1"),
}


@pytest.mark.parametrize("name", MADE_HERE)
def test_an_application_object_serves(name: str, script: Callable[..., HybridProcess], tmp_path: Path) -> None:
    place, code, expected = MADE_HERE[name]
    if place == "in a module":
        (tmp_path / "application.py").write_text(code)
        code = "from application import app\n"
    process = script(code + EMBED.format(get=GET.format(path="/")))
    assert process.wait() == 0, process.stderr
    assert process.stdout.strip() == expected


def test_a_script_that_workers_import_does_not_start_the_service_again(
    script: Callable[..., HybridProcess],
) -> None:
    code = HOLDING + EMBED.format(get="1").replace('if __name__ == "__main__":', "if True:")
    process = script(code)
    assert process.wait() == 1
    assert 'put the code that starts it below `if __name__ == "__main__":`' in process.stderr


def test_an_object_that_no_worker_can_have_is_named(script: Callable[..., HybridProcess]) -> None:
    code = HOLDING.replace("app = Application()", "") + EMBED.format(get="1").replace(
        "Service(app", "Service(Application()"
    )
    process = script(code)
    assert process.wait() == 1
    assert (
        "ConfigError: target: __main__:Application cannot be sent to a worker: cannot pickle 'socket'" in process.stderr
    )


def test_the_status_counts_the_connection_that_was_just_served(lines: Supervisor) -> None:
    """A worker that waits for a core for longer than a status waits for it is late, but not each time."""

    def counted() -> int:
        return sum(worker.requests for worker in lines.status().workers)

    before, at_once = counted(), 0
    for served in range(1, 6):
        assert ask(address_of(lines), b"x") == b"x"
        at_once += counted() == before + served
        eventually(lambda: counted() == before + served, "it is counted")  # noqa: B023 - asked at once
    assert at_once
