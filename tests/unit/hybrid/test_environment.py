"""Secrets are removed from the environment of the process and of its children."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
from hybrid.cli.environment import forget_secrets
forget_secrets()
child = os.popen("env").read()
shown = open("/proc/self/environ", "rb").read()
print("HYBRID_KEYFILE_PASSWORD" in os.environ, "hunter2" in child, b"hunter2" in shown)
print(os.environ["NEIGHBOUR"])
"""


def test_a_secret_is_neither_inherited_nor_in_proc_and_other_variables_stay() -> None:
    environment = {"BEFORE": "b", "HYBRID_KEYFILE_PASSWORD": "hunter2", "NEIGHBOUR": "stays"}
    command = [sys.executable, "-P", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "stays"]


def test_without_a_secret_nothing_changes() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], env={"NEIGHBOUR": "n"}, capture_output=True, check=True
    )
    assert done.stdout.split()[0] == b"False"


def test_the_secret_of_one_service_is_removed_too() -> None:
    environment = {"HYBRID_SERVICE_WEB_KEYFILE_PASSWORD": "hunter2", "NEIGHBOUR": "n"}
    command = [sys.executable, "-P", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "n"]
