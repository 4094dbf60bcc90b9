"""docs/containers.md: the Dockerfile's instructions are carried out here as far as they can be without an engine.

COPY copies into a fresh directory, RUN runs there with the environment of the tests and without a network (what pip is
to install is there already), CMD is served as the process that a container would have as PID 1, in a namespace of its
own where that is allowed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from support.clients import TIMEOUT
from support.process import DEADLINE, HybridProcess

TEXT = (Path(__file__).resolve().parents[2] / "docs/containers.md").read_text(encoding="utf-8")
APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from a container"]
"""
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--user", "--map-root-user")


def fence(language: str) -> str:
    [body] = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(body)


def instructions() -> list[tuple[str, str]]:
    """Return the lines of the Dockerfile as (instruction, arguments)."""
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in fence("dockerfile").splitlines())]


def command() -> list[str]:
    [last] = [rest for word, rest in instructions() if word == "CMD"]
    return [str(word) for word in json.loads(last)]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The directory that the Dockerfile's WORKDIR would be, after its COPY and RUN."""
    context, work = tmp_path / "context", tmp_path / "work"
    context.mkdir()
    work.mkdir()
    (context / "requirements.txt").write_text("hybrid-runtime\nflask\n")
    (context / "myapp.py").write_text(APPLICATION)
    for word, rest in instructions():
        if word == "COPY":
            source, target = (Path(part) for part in rest.split())
            if (context / source).is_dir():
                shutil.copytree(context / source, work / target, dirs_exist_ok=True)
            else:
                shutil.copy(context / source, work / target)
        elif word == "RUN":
            line = [sys.executable, "-m", *shlex.split(rest)]  # pip, of this environment
            subprocess.run(line, cwd=work, env={**os.environ, **ENVIRONMENT}, check=True, timeout=DEADLINE * 3)
    return work


def test_the_dockerfile_has_only_instructions_that_are_known_here() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD"}
    assert {word for word, _ in instructions()} <= known
    assert dict(instructions())["RUN"].startswith("pip install ")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="without util-linux there are no namespaces to make")
def test_its_command_serves_as_pid_1_and_ends_at_sigterm(image: Path) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("this account may not make a pid namespace")
    words = command()
    assert option(words, "--bind").rpartition(":")[2] == dict(instructions())["EXPOSE"]
    words[words.index("--bind") + 1] = "127.0.0.1:0"
    executable = [*NAMESPACE, shutil.which("hybrid", path=ENVIRONMENT["PATH"]) or "", *words[1:], "--workers", "1"]
    process = HybridProcess(cwd=image, executable=executable)
    try:
        process.wait_for_log("serving with 1 worker")
        listening = process.wait_for_log(r"listening on \D*([\d.]+):(\d+)")
        answer = httpx.get(f"http://{listening[1]}:{listening[2]}/", trust_env=False, timeout=TIMEOUT)
        assert answer.text == "hello from a container"
        assert all(json.loads(line)["level"] for line in process.lines)
        assert {json.loads(line)["pid"] for line in process.lines if "serving with" in line} == {1}
        [supervisor] = psutil.Process(process.pid).children()
        supervisor.terminate()
        assert process.wait() == 0
        assert json.loads(process.stdout)["status"] == 200
    finally:
        process.close()


def test_docker_kills_later_than_the_grace_period_ends() -> None:
    assert float(option(command(), "--graceful-timeout")) < 10


def test_kubernetes_waits_for_prestop_and_the_grace_period() -> None:
    text = fence("yaml")
    [total] = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    [pause] = re.findall(r'command: \["sleep", "(\d+)"\]', text)
    [words] = [json.loads(found) for found in re.findall(r"args: (\[.*\])", text)]
    assert int(total) >= int(pause) + int(option(words, "--graceful-timeout")) + 5


@pytest.mark.parametrize(("concurrency", "workers"), [("2", 2), (None, None)])
def test_the_procfile_takes_port_and_number_of_workers(
    concurrency: str | None, workers: int | None, tmp_path: Path
) -> None:
    (tmp_path / "myapp.py").write_text(APPLICATION)
    kind, _, line = fence("procfile").strip().partition(": ")
    assert kind == "web"
    env = {**ENVIRONMENT, "PORT": "0", "WEB_CONCURRENCY": concurrency}
    process = HybridProcess(cwd=tmp_path, env=env, executable=["sh", "-c", f"exec {line}"])
    try:
        found = process.wait_for_log(r"serving with (\d+) worker")
        assert workers is None or int(found[1]) == workers
        assert process.stop() == 0
    finally:
        process.close()
