"""`hybrid run` with a `hybrid.toml`: it serves a service of the file, and an upgrade reads the file again."""

from __future__ import annotations

import signal
from pathlib import Path

from support.clients import ask
from support.process import HybridProcess
from support.service import serving
from support.upgrading import upgradable

import hybrid


def write(directory: Path, text: str) -> None:
    (directory / "hybrid.toml").write_text(text)


def test_a_service_of_the_file_is_served_under_its_name(tmp_path: Path) -> None:
    write(tmp_path, 'workers = 1\nloop = "poll"\n[service.echo]\ntarget = "blocking:handle"\n')
    with serving("echo", cwd=tmp_path) as process:
        assert ask(process.address, b"count\nxyz") == b"3"
        process.wait_for_log(r"echo/0 gen=1 pid=\d+ ready on poll \(sync stream\)")


def test_a_broken_file_starts_nothing_and_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, 'workers = 1\n\n[service.echo]\ntarget = "blocking:handle"\nworkerz = 2\n')
    process = HybridProcess("run", cwd=tmp_path)
    try:
        assert process.wait() == hybrid.Exit.USAGE
        reason = "hybrid.toml:5:1: unknown key 'workerz': did you mean workers?"
        assert process.stderr.splitlines()[0] == f"hybrid: error: {tmp_path}/{reason}"
    finally:
        process.close()


def test_options_of_the_file_that_do_not_go_together_are_named_with_the_line(tmp_path: Path) -> None:
    write(tmp_path, 'workers = 1\n\n[service.echo]\ntarget = "blocking:handle"\nlabel_header = "X-Route"\n')
    process = HybridProcess("run", cwd=tmp_path)
    try:
        assert process.wait() == hybrid.Exit.USAGE
        reason = "hybrid.toml:5: label_header: labels are counted with --accounting only: add it"
        assert process.stderr.splitlines()[0] == f"hybrid: error: {reason}"
    finally:
        process.close()


def test_an_upgrade_reads_the_file_again(tmp_path: Path) -> None:
    text = 'workers = 1\nloop = "poll"\n[service.echo]\ntarget = "blocking:handle"\n'
    write(tmp_path, text)
    with upgradable("echo", cwd=tmp_path) as service:
        write(tmp_path, text.replace("poll", "select"))
        service.upgrade()
        service.process.wait_for_log(r"echo/0 gen=\d+ pid=\d+ ready on select \(sync stream\)")
        assert ask(service.process.address, b"count\nxyz") == b"3"


def test_an_upgrade_to_a_broken_file_fails_and_the_service_goes_on(tmp_path: Path) -> None:
    text = 'workers = 1\n[service.echo]\ntarget = "blocking:handle"\n'
    write(tmp_path, text)
    with upgradable("echo", cwd=tmp_path) as service:
        write(tmp_path, "workers = \n")
        service.process.signal(signal.SIGUSR2)
        service.process.wait_for_log("ERROR .*upgrade failed, this supervisor goes on: ")
        assert ask(service.process.address, b"count\nxyz") == b"3"
