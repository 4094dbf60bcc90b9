"""The examples do what their headers promise; the handlers on all loops."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.clients import TIMEOUT, ask, connected, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import UNSTEERED, eventually

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
SCRIPT_SECONDS = 60.0  # a deadline; on an idle machine they take one or two

Command = Callable[..., HybridProcess]
Serve = Callable[..., HybridProcess]


@pytest.fixture
def serve(hybrid_command: Command) -> Serve:
    """Start `hybrid run examples.NAME` in the root of the repository, and wait for service."""

    def start(
        target: str, *arguments: str, bind: str = "127.0.0.1:0", env: dict[str, str] | None = None
    ) -> HybridProcess:
        words = ("run", "--bind", bind, *arguments, f"examples.{target}")
        process = hybrid_command(*words, cwd=ROOT, env=env, executed=False)
        return process.wait_serving()

    return start


def run_script(name: str, *arguments: str) -> str:
    """Run `python examples/NAME.py` to its end, which must be a good one; return what it printed."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextmanager
def select_server(poller: str) -> Iterator[tuple[str, int]]:
    """Run `select_server.py` on a free port; give its address; end it."""
    command = [sys.executable, "-u", str(EXAMPLES / "select_server.py"), "0", "--poller", poller]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found
            yield "127.0.0.1", int(found[1])
            assert process.poll() is None, "the server ended"
        finally:
            process.kill()


# --- scripts


def test_the_two_greenlets_hand_the_word_to_each_other() -> None:
    assert run_script("ping_pong").split() == ["12", "56", "34", "78"]


@pytest.mark.parametrize("loop", LOOPS)
def test_many_greenlets_end_together(loop: str) -> None:
    out = run_script("many_greenlets", "1000", "--loop", loop)
    assert "1,000 greenlets" in out
    assert out.endswith("their sum is 999,000\n")


def test_a_program_embeds_a_service_and_scales_it() -> None:
    assert run_script("embedded").splitlines() == ["hello, world!", "slot 0: ready", "slot 1: ready", "ended"]


def test_a_script_offloads_calls_without_a_service() -> None:
    assert run_script("offload_script").splitlines() == [
        "another process: True",
        "primes below 20,000: 2262",
        "primes below 10, 100, 1000: 4 25 168",
        "an error comes back as itself: invalid literal for int() with base 10: 'twelve'",
    ]


def test_one_core_and_many_cores_are_measured() -> None:
    out = run_script("one_core_many_cores", "--seconds", "0.3")
    cores = len(os.sched_getaffinity(0))
    assert re.search(r"1 worker: +\d", out)
    assert f"{cores} workers:" in out if cores > 1 else "one core" in out


# --- a file


def test_the_three_services_of_the_file_run(hybrid_command: Command) -> None:
    free = {f"HYBRID_SERVICE_{name}_BIND": "127.0.0.1:0" for name in ("WEB", "ECHO")}
    process = hybrid_command("run", "--config", "examples/services.toml", cwd=ROOT, env=free)
    process.wait_for_log(r"serving with \d+ worker", count=3)
    process.wait_for_log(r" clock/0 gen=1 pid=\d+ .*\d\d:\d\d:\d\d")
    web, echo = (("127.0.0.1", int(address.rpartition(":")[2])) for address in process.addresses)
    assert ask(web, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert ask(echo, b"one\ntwo\n") == b"one\ntwo\n"


# --- the event-driven original


@pytest.mark.parametrize("poller", ["select", "poll", "epoll"])
def test_the_event_driven_server_serves_several_at_once(poller: str) -> None:
    with select_server(poller) as address, connected(address) as first, connected(address) as second:
        first.sendall(b"one")
        second.sendall(b"two")
        assert read_exactly(second, 3) == b"two"
        assert read_exactly(first, 3) == b"one"


@pytest.mark.parametrize("poller", ["select", "poll", "epoll"])
def test_the_event_driven_server_answers_a_client_that_says_no_more(poller: str) -> None:
    with select_server(poller) as address:
        assert ask(address, b"x" * 200_000) == b"x" * 200_000


@pytest.mark.parametrize("poller", ["select", "poll", "epoll"])
def test_the_event_driven_server_survives_a_reset(poller: str) -> None:
    with select_server(poller) as address:
        with connected(address) as rude:
            rude.sendall(b"good morning")
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close resets
        assert ask(address, b"still there?") == b"still there?"


# --- handlers, on all loops


@pytest.mark.parametrize("loop", LOOPS)
def test_the_handler_of_three_lines_echoes(serve: Serve, loop: str) -> None:
    service = serve("select_handler:handle", "--workers", "1", "--loop", loop)
    assert ask(service.address, b"y" * 100_000) == b"y" * 100_000


@pytest.mark.parametrize("loop", LOOPS)
def test_the_sync_echo_welcomes_echoes_and_quits(serve: Serve, loop: str) -> None:
    service = serve("echo_sync:handle", "--workers", "1", "--loop", loop)
    answer = ask(service.address, b"hello\r\nquit\r\nnot read any more\r\n")
    assert answer == b"Welcome to the echo server! Type quit to exit.\r\nhello\r\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_async_echo_echoes_lines(serve: Serve, loop: str) -> None:
    service = serve("echo_async:handle", "--workers", "1", "--loop", loop)
    assert ask(service.address, b"one\ntwo\nwithout an end") == b"one\ntwo\nwithout an end"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_protocol_turns_lines_round(serve: Serve, loop: str) -> None:
    service = serve("protocol:Reverser", "--workers", "1", "--loop", loop)
    with connected(service.address) as sock:
        sock.sendall(b"stressed\ndrawer\nhalf a li")
        assert read_exactly(sock, 16) == b"desserts\nreward\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_datagram_handler_answers_in_capitals(serve: Serve, loop: str) -> None:
    service = serve("datagram:handle", "--workers", "1", "--loop", loop, bind="udp://127.0.0.1:0")
    host, port = service.addresses[0].removeprefix("udp://").rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendto(b"hello", (host, int(port)))
        assert sock.recv(100) == b"HELLO"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_computing_handler_counts_primes(serve: Serve, loop: str) -> None:
    service = serve("one_core_many_cores:handle", "--workers", "1", "--loop", loop)
    answers = ask(service.address, b"2\n3\n10\n20000\n1000001\nmany\n").decode().splitlines()
    refusal = "a number up to 1000000, please"
    assert answers == ["0", "1", "4", "2262", refusal, refusal]


# --- the chat


class Friend:
    """A client of the chat."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock = sock
        self._lines = sock.makefile("r")
        self.name = name

    def enter(self) -> None:
        """Tell the name, and wait until everybody has been told."""
        self.say(self.name)
        self.hear(f"* {self.name} is here")

    def say(self, text: str) -> None:
        self._sock.sendall(f"{text}\n".encode())

    def hear(self, text: str) -> list[str]:
        """Read until the line `text`; return what was heard before. The socket's timeout is the deadline."""
        heard = []
        for line in self._lines:
            if line.rstrip("\n") == text:
                return heard
            heard.append(line)
        raise AssertionError(f"{self.name} never heard {text!r}, only {heard}")

    def close(self) -> None:
        self._lines.close()


@contextmanager
def friends(address: tuple[str, int], *names: str) -> Iterator[list[Friend]]:
    """Connect somebody for each name, one after the other."""
    with ExitStack() as stack:
        found = []
        for name in names:
            found.append(Friend(stack.enter_context(connected(address)), name))
            stack.callback(found[-1].close)
            found[-1].enter()
        yield found


@pytest.mark.parametrize("loop", LOOPS)
def test_friends_in_a_room_hear_each_other(serve: Serve, loop: str) -> None:
    service = serve("chat:handle", "--workers", "1", "--loop", loop)
    with friends(service.address, "ann", "bob") as (ann, bob):
        bob.say("hello")
        ann.hear("bob: hello")
        bob.hear("bob: hello")


def test_rooms_are_apart(serve: Serve) -> None:
    service = serve("chat:handle", "--workers", "1")
    with friends(service.address, "ann", "bob") as (ann, bob):
        bob.say("/join kitchen")
        ann.hear("* bob has left for another room")
        bob.say("who is here?")
        bob.hear("bob: who is here?")
        ann.say("where is he?")
        assert ann.hear("ann: where is he?") == []


def test_somebody_who_leaves_is_missed(serve: Serve) -> None:
    service = serve("chat:handle", "--workers", "1")
    with friends(service.address, "ann", "bob") as (ann, bob):
        bob.say("/quit")
        ann.hear("* bob has gone")


@pytest.mark.parametrize("loop", LOOPS)
def test_the_bridge_joins_the_rooms_of_two_workers(serve: Serve, loop: str) -> None:
    with tempfile.TemporaryDirectory(prefix="chat") as directory:  # short: a socket's path has at most 107 bytes
        service = serve("chat:handle", "--workers", "2", "--loop", loop, *UNSTEERED, env={"CHAT_BRIDGE": directory})
        with ExitStack() as stack:
            everybody: list[Friend] = []

            def both_have_members() -> bool:
                everybody.extend(stack.enter_context(friends(service.address, f"friend{len(everybody)}")))
                return len(list(Path(directory).glob("*.sock"))) == 2

            # not a number of friends: right after the start one worker may accept for the other one, too
            eventually(both_have_members, "both workers have members")
            everybody[0].say("hello")
            for friend in everybody:
                friend.hear("friend0: hello")


# --- the folder


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_example_says_what_to_type_and_is_listed(path: Path) -> None:
    header = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert re.search(rf"hybrid run .*examples\.{path.stem}:\w+|python examples/{path.stem}\.py", header)
    assert re.search(rf"^\s+{path.stem} ", (EXAMPLES / "__init__.py").read_text(), re.MULTILINE)
