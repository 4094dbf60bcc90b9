"""A program: a supervisor that has a zygote and does nothing by itself; it obeys lines of JSON and reports in such.

    python zygote_parent.py '{"line": 7, "target": "app:handle", "options": {...of Service...}, "audit": true}'

    in   {"spawn": slot}  {"fork": slot}  {"learn": slot}  {"steer": slot}  {"terminate": pid}  {"hang_up": true}
         {"bad_message": true}  {"forget_descriptors": true}
    out  {"zygote": pid, "addresses": [...]} first; then {"from": "zygote" or slot, "says": "Warm", ...its fields},
         {"ended": pid, "code": code, "signal": name}, {"silent": "zygote" or slot} for a channel's end,
         {"steered": slot}

`line` is the descriptor that they come and go by; its end ends the program. `target` null: a closure.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import select
import sys
from typing import Any

from hybrid.config.service import Service
from hybrid.plan import plan
from hybrid.supervisor.children.kernel import LinuxKernel
from hybrid.supervisor.children.spawn import be_worker
from hybrid.supervisor.children.zygote import be_zygote
from hybrid.supervisor.children.zygote_spec import ZygoteSpec
from hybrid.supervisor.listeners.sockets import Listeners, open_listeners
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Learn, Spawn
from hybrid.workers.contract.scoreboard import Scoreboard
from hybrid.workers.contract.worker_spec import WorkerSpec

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def closure() -> Any:
    """Return a handler that only this process knows."""
    greeting = b"from a closure"

    def handle(sock: Any, address: Any) -> None:
        sock.sendall(greeting)

    return handle


class ZygoteParent:
    """The supervisor. `channels` are ours to the zygote, and to each worker by slot."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.line = given["line"]
        self.kernel = LinuxKernel()
        options = {"bind": "127.0.0.1:0", "workers": 2, **given.get("options", {})}
        self.plan = plan(Service(given["target"] or closure(), **options), travels=given.get("travels", False))
        self.plan.enter()
        log.configure("text", "info", {"service": "web"})
        self.listeners: Listeners = open_listeners(self.plan.settings)
        self.board = Scoreboard(200)
        self.pids: list[int] = []
        self.channels: dict[str | int, Channel] = {}
        self.audit = given.get("audit", True)
        self.places = iter(range(200))

    def say(self, **facts: Any) -> None:
        os.write(self.line, json.dumps(facts).encode() + b"\n")

    def fork_zygote(self) -> None:
        def be(channel: Channel) -> int:
            spec = ZygoteSpec("web", 1, os.getppid(), self.listeners.all(), channel, 10.0, self.board, self.audit)
            return be_zygote(spec, self.plan.settings, self.plan, [lambda: os.close(self.line)])

        pid, self.channels["zygote"] = self.kernel.fork(be)
        self.pids.append(pid)
        self.say(zygote=pid, addresses=self.listeners.addresses)

    def fork_worker(self, slot: int) -> None:
        """Without the zygote, to compare."""
        pid, self.channels[slot] = self.kernel.fork(lambda channel: self.be_worker(slot, channel))
        self.pids.append(pid)

    def be_worker(self, slot: int, channel: Channel) -> int:
        spec = WorkerSpec("web", slot, 1, os.getppid(), self.listeners.all(), channel, 10.0)
        foreign = [one.close for one in self.channels.values()]
        return be_worker(spec, self.plan.settings, self.plan.body, [*foreign, lambda: os.close(self.line)])

    def obey(self, order: dict[str, Any]) -> None:
        match order:
            case {"spawn": slot}:
                ours, theirs = Channel.pair()
                dump_fd = os.memfd_create("dump_fd")
                spawn = Spawn(slot, order.get("generation", 1), next(self.places))
                assert self.channels["zygote"].hand_over_nowait(spawn, [theirs.fileno(), dump_fd])
                theirs.close()
                os.close(dump_fd)
                self.channels[slot] = ours
            case {"learn": slot}:
                self.listeners.grow(slot + 1)
                own = [one for one in self.listeners.all() if one.slot == slot]
                learn = Learn(slot, tuple(one.address for one in own), tuple(one.kind.value for one in own))
                assert self.channels["zygote"].hand_over_nowait(learn, [one.sock.fileno() for one in own])
            case {"steer": slot}:
                self.listeners.steer((slot,))
                self.say(steered=slot)
            case {"fork": slot}:
                self.fork_worker(slot)
            case {"terminate": pid}:
                self.kernel.terminate(pid)
            case {"bad_message": _}:
                self.channels["zygote"]._sock.send(b"nonsense")
            case {"forget_descriptors": _}:
                assert self.channels["zygote"].hand_over_nowait(Learn(9, ("127.0.0.1:9",), ("stream",)), [])
            case {"hang_up": _}:
                self.channels.pop("zygote").close()

    def run(self) -> None:
        pending = b""
        while True:
            poll = select.poll()
            for fd in {self.line, *(channel.fileno() for channel in self.channels.values())}:
                poll.register(fd, select.POLLIN)
            if self.line in dict(poll.poll(20)):
                piece = os.read(self.line, 65536)
                if not piece:
                    return
                *lines, pending = (pending + piece).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
            for name, channel in list(self.channels.items()):
                self.hear(name, channel)
            for pid, how in self.kernel.reap(self.pids):
                self.pids.remove(pid)
                self.say(ended=pid, code=how.code, signal=how.signal)

    def hear(self, name: str | int, channel: Channel) -> None:
        try:
            while (message := channel.receive_nowait()) is not None:
                facts = {**dataclasses.asdict(message), "from": name, "says": type(message).__name__}
                if facts["says"] == "Forked":
                    self.pids.append(facts["pid"])
                self.say(**facts)
        except ChannelClosed:
            del self.channels[name]
            channel.close()
            self.say(silent=name)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    parent = ZygoteParent(json.loads(sys.argv[1]))
    parent.fork_zygote()
    parent.run()
