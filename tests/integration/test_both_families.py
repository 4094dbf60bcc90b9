"""`--bind [::]:PORT`: IPv4 and IPv6 on one socket, IPv4 peers by their IPv4 address, `--ipv6-only`, busy ports."""

from __future__ import annotations

import ast
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from support.clients import TIMEOUT, connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving
from support.tcp import unused_port
from support.upgrading import upgradable
from support.wsgi import read_answer, send_request

BOTH = ("127.0.0.1", "::1")
every_loop = pytest.mark.parametrize("loop", LOOPS)


def port_of(process: HybridProcess) -> int:
    return int(process.addresses[0].rpartition(":")[2])


def told_to(host: str, port: int) -> Any:
    with connected((host, port)) as sock:
        return ast.literal_eval(read_all(sock).decode()), sock.getsockname()


@every_loop
@pytest.mark.parametrize("kind", ["sync", "coroutine", "Protocol"])
def test_a_handler_is_told_the_address_that_its_client_knows(kind: str, loop: str, tmp_path: Path) -> None:
    with serving(f"peers:{kind}", "--bind", "[::]:0", "--workers", "1", "--loop", loop, cwd=tmp_path) as process:
        for host in BOTH:
            told, own = told_to(host, port_of(process))
            if loop == "uvloop" and kind != "sync" and host == "127.0.0.1":  # libuv asks the kernel by itself
                own = (f"::ffff:{host}", own[1], 0, 0)
            assert tuple(told) == own


@every_loop
@pytest.mark.parametrize("kind", ["datagram", "datagram_coroutine"])
def test_datagrams_of_both_families_are_answered(kind: str, loop: str, tmp_path: Path) -> None:
    with serving(f"peers:{kind}", "--bind", "udp://[::]:0", "--workers", "2", "--loop", loop, cwd=tmp_path) as process:
        for family, host in zip((socket.AF_INET, socket.AF_INET6), BOTH, strict=True):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(TIMEOUT)
                sock.connect((host, port_of(process)))
                sock.send(b"who am I?")
                assert ast.literal_eval(sock.recv(200).decode()) == sock.getsockname()


@every_loop
@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_an_application_a_trusted_proxy_and_the_access_log_know_ipv4_addresses(
    interface: str, loop: str, tmp_path: Path
) -> None:
    options = ("--bind", "[::]:0", "--workers", "1", "--loop", loop, "--interface", interface)
    options = (*options, "--access-log", "%(h)s", "--forwarded-allow-ips", "127.0.0.1")
    with serving(f"witness:{interface}", *options, cwd=tmp_path) as process:
        found = [facts_of(("127.0.0.1", port_of(process)), field) for field in ("x: y", "x-forwarded-for: 192.0.2.7")]
        assert [one["client"][0] for one in found] == ["127.0.0.1", "192.0.2.7"]
        assert {(one["name"], one["port"]) for one in found} == {("127.0.0.1", str(port_of(process)))}
        eventually(lambda: process.stdout == "127.0.0.1\n192.0.2.7\n", "the access log")


def facts_of(address: tuple[str, int], field: str) -> dict[str, Any]:
    with connected(address) as sock:
        send_request(sock, "/facts", field, "connection: close")
        return dict(json.loads(read_answer(sock).body))


def test_ipv6_only_leaves_the_ipv4_port_to_others(tmp_path: Path) -> None:
    port = unused_port()
    with serving("peers:sync", "--bind", f"[::]:{port}", "--ipv6-only", "--workers", "1", cwd=tmp_path):
        assert told_to("::1", port)[0][0] == "::1"
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_both_wildcard_addresses_of_one_port_can_be_named(tmp_path: Path) -> None:
    port = unused_port()
    binds = ("--bind", f"0.0.0.0:{port}", "--bind", f"[::]:{port}", "--workers", "1")
    with serving("peers:sync", *binds, cwd=tmp_path):
        assert [told_to(host, port)[0][0] for host in BOTH] == list(BOTH)


def test_a_reload_and_an_upgrade_keep_both_families(tmp_path: Path) -> None:
    with upgradable("peers:sync", "--bind", "[::]:0", "--workers", "2", cwd=tmp_path) as service:
        port = port_of(service.process)
        service.process.signal(signal.SIGHUP)
        service.process.wait_for_log("reload complete")
        assert [told_to(host, port)[0][0] for host in BOTH] == list(BOTH)
        service.upgrade()
        assert [told_to(host, port)[0][0] for host in BOTH] == list(BOTH)
