"""The program: all clients of a storm in one thread, and what it is told on standard input.

A command is a line, and so is its answer, which is JSON:

    flight      {"sent": requests without a whole answer, "connecting": those that have no connection yet}
    answers N   the count of right answers, once N more have come; null if the storm ends before
    stop        the tally, when the requests under way have been answered or given up; the program ends

The end of standard input, or the deadline, is a stop without a command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import time

from benchmarks.storm.client import Client, Lines, Plan
from benchmarks.storm.tally import Tally

_GRAIN = 0.02  # seconds between looks at pauses and timeouts


class Storm:
    """The clients, and what they are told."""

    def __init__(self, plan: Plan, clients: int, deadline: float) -> None:
        self._lines = Lines()
        self._tally = Tally()
        self._clients = [Client(number, plan, self._lines, self._tally) for number in range(clients)]
        self._deadline = deadline
        self._grain = min(_GRAIN, plan.rest or _GRAIN)
        self._is_over = False
        self._goals: list[int] = []  # counts of right answers that somebody waits for
        self._input = b""
        self._last_right = 0.0

    def run(self) -> Tally:
        """Storm until it is stopped. Blocks."""
        began = now = self._last_right = time.monotonic()
        with contextlib.suppress(PermissionError):  # a file or /dev/null, of which nobody can be told
            self._lines.poll.register(0, select.EPOLLIN)
        for client in self._clients:
            client.ask(now)
        looked = now
        while not self._is_over or any(client.began for client in self._clients):
            events = self._lines.poll.poll(self._grain)
            now = time.monotonic()
            self._turn(events, now)
            if now - looked >= self._grain:
                looked = now
                self._look_around(now)
            if now - began > self._deadline and not self._is_over:
                self._tally.expired = self._is_over = True
        self._tally.longest_gap = max(self._tally.longest_gap, now - self._last_right)
        self._tally.seconds = now - began
        self._lines.close()
        for _ in self._goals:
            _say(None)
        return self._tally

    def _turn(self, events: list[tuple[int, int]], now: float) -> None:
        before = self._tally.right
        for fd, _ in events:
            if fd == 0:
                self._listen()
            elif (client := self._lines.owners.get(fd)) is not None:
                client.turn(now)
                if client.is_idle and not self._is_over:
                    client.ask(now)
        if self._tally.right > before:
            self._tally.longest_gap = max(self._tally.longest_gap, now - self._last_right)
            self._last_right = now
            self._reach()

    def _look_around(self, now: float) -> None:
        for client in self._clients:
            client.expire(now)
            if client.paused_until and now >= client.paused_until:
                client.resume(now)
            if client.is_idle and not self._is_over:
                client.ask(now)

    def _listen(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self._is_over = True
            self._lines.poll.unregister(0)
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._obey(*line.decode().split())

    def _obey(self, command: str = "", *words: str) -> None:
        match command:
            case "flight":
                sent = sum(client.is_sent for client in self._clients)
                _say({"sent": sent, "connecting": sum(bool(client.began) for client in self._clients) - sent})
            case "answers":
                self._goals.append(self._tally.right + int(words[0]))
                self._reach()
            case "stop":
                self._is_over = True
            case "":
                pass
            case _:
                raise ValueError(f"unknown command {command!r}")

    def _reach(self) -> None:
        while self._goals and self._tally.right >= self._goals[0]:
            del self._goals[0]
            _say(self._tally.right)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def _plan(options: argparse.Namespace) -> Plan:
    host, colon, port = options.address.rpartition(":")
    address = (host.strip("[]"), int(port)) if colon and port.isdigit() else options.address
    return Plan(address, options.target, options.close, options.timeout, options.rest)


def main() -> None:
    """Run a storm as the command line says and print its tally."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="host:port, or the path of a UNIX socket")
    parser.add_argument("--target", default="/", help="path and query of the requests [/]")
    parser.add_argument("--clients", type=int, default=32, help="requests under way at a time [32]")
    parser.add_argument("--close", action="store_true", help="a connection for each request")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for a request [10]")
    parser.add_argument("--rest", type=float, default=0.0, help="seconds from an answer to the next request [0]")
    parser.add_argument("--seconds", type=float, default=120.0, help="deadline of it all [120]")
    options = parser.parse_args()
    tally = Storm(_plan(options), options.clients, options.seconds).run()
    _say(tally.as_dict())


if __name__ == "__main__":
    main()
