"""What tests of the supervisor's shell begin with: settings, and a program that a fake kernel never runs."""

from __future__ import annotations

from collections.abc import Callable

from hybrid.supervisor import start
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.deployment import Deployment, ServiceSpec
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.worker_spec import WorkerSpec
from support.fake_kernel import FakeKernel

Log = Callable[[], list[str]]
"""Gives the lines that the supervisor has logged."""


class NoProgram:
    """A program that must not run: a fake kernel runs no child."""

    def body(self, spec: WorkerSpec) -> int:
        raise AssertionError

    def warm(self, *, audit: bool, dump_fd: int) -> None:
        raise AssertionError


def settings(**fields: object) -> Settings:
    """Return settings of two workers at a free port, without stall detection, as a fake answers no ping."""
    unwatched = {"control": "off", "preload": "off", "balance": "off", "stall_threshold": 0.0, "stall_report": 0.0}
    usual = {"binds": (parse_bind("127.0.0.1:0"),), "workers": 2, **unwatched}
    return Settings(**{**usual, **fields})  # type: ignore[arg-type]


def deployment(**fields: object) -> Deployment:
    """Return a deployment of one service with such settings."""
    return Deployment.of(ServiceSpec(settings(**fields), NoProgram()))


def run(kernel: FakeKernel, control: Control | None = None, **fields: object) -> Exit:
    """Be the supervisor over a fake kernel."""
    return start.run(deployment(**fields), kernel, control)


def tree(kernel: FakeKernel, *services: Settings, reread: Callable[[], Deployment] | None = None) -> Exit:
    """Be the supervisor of several services over a fake kernel."""
    specs = tuple(ServiceSpec(one, NoProgram(), f"{one.service}:app") for one in services)
    return start.run(Deployment(specs, "shop", reread), kernel, None)
