"""The commands for a running supervisor: what they ask, what they write, and how they end."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.control_peer import (
    EVENTS,
    GREETING,
    HANG_UP,
    SHOP,
    STACKS,
    ControlPeer,
    after,
    failure,
    result,
    service,
    silence,
    status,
    worker,
)
from support.process import DEADLINE, OUR_VARIABLES, HybridProcess

from hybrid.cli.commands import all_commands
from hybrid.cli.entry import CONTROL, main

Command = Callable[..., HybridProcess]
Answered = Callable[..., tuple[int, str, str]]
ATTEMPTS = 20


@pytest.fixture
def shop() -> Iterator[ControlPeer]:
    """A supervisor that must be named by its address."""
    with ControlPeer() as peer:
        yield peer


@pytest.fixture
def found() -> Iterator[ControlPeer]:
    """A supervisor that is found, by a name of its own: others may run on this machine, and others may ask it."""
    name = f"found-{secrets.token_hex(4)}"
    address = f"@hybrid/{name}/4711.{secrets.token_hex(4)}"
    with ControlPeer(greeting={**GREETING, "name": name}, address=address) as peer:
        yield peer


def name_of(peer: ControlPeer) -> str:
    return peer.address.split("/")[1]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Answered:
    """Run a command in this process: `answered(peer, *words)`; without a peer nothing says which one is asked."""
    for name in [name for name in os.environ if name.startswith(OUR_VARIABLES)]:
        monkeypatch.delenv(name)

    def answer(peer: ControlPeer | None, *arguments: str) -> tuple[int, str, str]:
        if peer is not None:
            monkeypatch.setenv("HYBRID_CONTROL", peer.address)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return answer


def asked(peer: ControlPeer) -> dict[str, Any]:
    """Return the only request that a peer got, without its id."""
    (request,) = peer.asked
    return {name: value for name, value in request.items() if name != "id"}


# --- what each command asks and writes


@pytest.mark.parametrize(
    ("words", "request_", "out"),
    [
        ("reload", {"request": "reload"}, "web is reloaded: generation 8\n"),
        ("reload web", {"request": "reload", "service": "web"}, "web is reloaded: generation 8\n"),
        ("scale 6", {"request": "scale", "workers": 6}, "web has 6 workers\n"),
        ("scale web 1", {"request": "scale", "service": "web", "workers": 1}, "web has 1 worker\n"),
        ("scale +2", {"request": "scale", "by": 2}, "web has 4 workers\n"),
        ("scale web -1 --wait 5", {"request": "scale", "service": "web", "by": -1}, "web has 1 worker\n"),
        ("scale -1", {"request": "scale", "by": -1}, "web has 1 worker\n"),
        ("scale web 3 --wait", {"request": "scale", "service": "web", "workers": 3}, "web has 3 workers\n"),
        ("restart web/1", {"request": "restart", "service": "web", "slot": 1}, "web/1 is replaced: pid 4811\n"),
        ("stop web", {"request": "stop", "service": "web"}, "web has stopped\n"),
        ("stop web --now", {"request": "stop", "service": "web", "now": True}, "web has stopped\n"),
        ("stacks web/1 --json", {"request": "stacks", "service": "web", "slot": 1}, None),
        ("stacks web --json", {"request": "stacks", "service": "web"}, None),
        ("loglevel DEBUG", {"request": "loglevel", "level": "debug"}, None),
        ("loglevel debug --for 1m", {"request": "loglevel", "level": "debug", "for": 60.0}, None),
        ("status web --json", {"request": "status", "service": "web"}, None),
    ],
)
def test_a_command_is_one_request(
    shop: ControlPeer, answered: Answered, words: str, request_: dict[str, Any], out: str | None
) -> None:
    code, written, _ = answered(shop, *words.split())
    assert code == 0
    assert asked(shop) == request_
    assert out is None or written == out


def test_the_whole_supervisor_stops_and_is_upgraded_by_its_name(shop: ControlPeer, answered: Answered) -> None:
    name = "shop"
    assert answered(shop, "upgrade")[:2] == (0, f"{name} is upgraded: pid 5000\n")
    assert answered(shop, "loglevel", "info", "--for", "90")[:2] == (0, f"{name} logs at info for 90 s\n")
    assert answered(shop, "stop")[:2] == (0, f"{name} has stopped\n")


def test_status_is_a_table_without_colours_in_a_pipe(shop: ControlPeer, answered: Answered) -> None:
    code, out, err = answered(shop, "status")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 5
    assert "\x1b" not in out


def test_status_in_json_is_the_answer_of_the_supervisor(shop: ControlPeer, answered: Answered) -> None:
    assert json.loads(answered(shop, "status", "--json")[1]) == status()


def test_json_reaches_the_terminal_in_ascii_without_control_characters(answered: Answered) -> None:
    odd = status(name="\x1b\x7f\x9b\u202e店")
    with ControlPeer(status=result(**odd)) as peer:
        _, out, _ = answered(peer, "status", "--json")
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == odd


def test_stacks_are_written_worker_by_worker(shop: ControlPeer, answered: Answered) -> None:
    _, out, _ = answered(shop, "stacks")
    assert "    shop/prices.py:88 in recompute\n" in out
    assert json.loads(answered(shop, "stacks", "--json")[1]) == STACKS


def test_events_are_a_line_each(shop: ControlPeer, answered: Answered) -> None:
    _, out, err = answered(shop, "events")
    assert [json.loads(line) for line in out.splitlines()] == EVENTS
    assert err == ""


def test_a_supervisor_that_keeps_no_events_is_followed_only(answered: Answered) -> None:
    with ControlPeer(subscribe=result()) as peer:
        code, out, err = answered(peer, "events")
    assert (code, out) == (0, "")
    assert err == "This supervisor keeps no events: write hybrid events --follow\n"


def test_followed_events_end_with_their_reader(shop: ControlPeer) -> None:
    """As in `hybrid events --follow | head`, without waiting for another event."""
    command = [sys.executable, "-P", "-m", "hybrid", "events", "--follow", "--control", shop.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline()) for _ in EVENTS] == EVENTS
        process.stdout.close()
        assert process.wait(DEADLINE) == 0


def test_followed_events_end_with_the_supervisor(answered: Answered) -> None:
    new = {"event": "death", "pid": 4713}
    with ControlPeer(subscribe=lambda request: [*result(recent=EVENTS)(request), new, HANG_UP]) as peer:
        code, out, err = answered(peer, "events", "--follow")
    assert [json.loads(line) for line in out.splitlines()] == [*EVENTS, new]
    assert code == 1
    assert "has closed the connection" in err


def test_progress_is_on_stderr(shop: ControlPeer, answered: Answered) -> None:
    _, out, err = answered(shop, "reload")
    assert out == "web is reloaded: generation 8\n"
    assert err == "reload: web 0 of 2 workers ready\nreload: web 1 of 2 workers ready\n"


# --- how they end


@pytest.mark.parametrize(
    ("words", "request_name"),
    [
        ("reload", "reload"),
        ("scale 3", "scale"),
        ("restart web/0", "restart"),
        ("stop", "stop"),
        ("upgrade", "upgrade"),
    ],
)
def test_a_failure_is_exit_code_1_with_the_reason(answered: Answered, words: str, request_name: str) -> None:
    with ControlPeer(
        {**SHOP, request_name: after({"ready": 0, "of": 2}, then=failure("failed", "no\x1bmodule"))}
    ) as peer:
        code, out, err = answered(peer, *words.split())
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == rf"hybrid: error: {request_name} failed: no\x1bmodule"


@pytest.mark.parametrize("words", ["reload", "scale 3", "restart web/0", "stop", "upgrade"])
def test_the_end_of_the_time_is_exit_code_124(answered: Answered, words: str) -> None:
    with ControlPeer(dict.fromkeys(SHOP, silence)) as peer:
        code, out, err = answered(peer, *words.split(), "--wait", "10ms")
    assert (code, out) == (124, "")
    assert err.endswith("is not carried out after 0.01 s; the supervisor continues: see hybrid status\n")


def test_wait_0_returns_once_the_request_is_accepted(answered: Answered) -> None:
    with ControlPeer(reload=after({"ready": 0, "of": 2}, then=silence)) as peer:
        assert answered(peer, "reload", "--wait", "0") == (0, "", "")


def test_wait_0_still_tells_a_refusal(answered: Answered) -> None:
    with ControlPeer(reload=failure("stopping", "the supervisor ends")) as peer:
        code, _, err = answered(peer, "reload", "--wait", "0")
    assert (code, err) == (1, "hybrid: error: reload failed: the supervisor ends\n")


def test_a_supervisor_that_had_to_kill_is_exit_code_1(answered: Answered) -> None:
    with ControlPeer(stop=after({"left": 1}, then=result(code=7))) as peer:
        code, out, err = answered(peer, "stop")
    assert code == 1
    assert out == "shop has stopped\n"
    assert err.splitlines()[-1].startswith("hybrid: error: the supervisor ended with code 7")


def test_a_supervisor_that_dies_meanwhile_is_exit_code_1(answered: Answered) -> None:
    with ControlPeer(reload=lambda _: [HANG_UP]) as peer:
        code, _, err = answered(peer, "reload")
    assert code == 1
    assert "the supervisor ended before reload was carried out" in err


def test_a_service_that_does_not_exist_is_told(shop: ControlPeer, answered: Answered) -> None:
    code, _, err = answered(shop, "status", "nowhere")
    assert (code, err) == (1, "hybrid: error: there is no service 'nowhere', but web\n")


def test_a_supervisor_of_another_account_refuses(answered: Answered) -> None:
    refusal = {"error": {"code": "refused", "reason": "uid 1000 may not use this socket"}}
    with ControlPeer(greeting=refusal) as peer:
        code, _, err = answered(peer, "status")
    assert (code, err) == (1, "hybrid: error: uid 1000 may not use this socket\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("restart", "Missing argument 'SERVICE/SLOT'"),
        ("restart web", "'web' is not a worker: write SERVICE/SLOT, e.g. web/3"),
        ("restart web/x", "'web/x' is not a worker"),
        ("scale", "Missing argument"),
        ("scale web", "'web': write [SERVICE] and N, +N or -N, e.g. hybrid scale web 6"),
        ("scale web 6 7", "'web 6 7': write [SERVICE] and N, +N or -N"),
        ("scale --nonsense 6", "No such option '--nonsense'"),
        ("reload --wait soon", "'soon' is not a duration"),
        ("reload --wait 25h", "'25h' is too long: use at most 24h"),
        ("loglevel loud", "'loud' is not one of 'debug', 'info', 'warning', 'error'"),
        ("status --watch", "Option '--watch' requires an argument"),
        ("status -n shop --control /x", "--name and --control exclude each other"),
        ("events web", "unexpected extra argument"),
        ("ps web", "unexpected extra argument"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_with_code_2(answered: Answered, words: str, expected: str) -> None:
    code, out, err = answered(None, *words.split())
    first, second = err.splitlines()
    assert (code, out) == (2, "")
    assert expected in first
    assert second == f"For all options type: hybrid {words.split()[0]} --help"


def test_a_reader_that_leaves_ends_the_command_quietly(shop: ControlPeer) -> None:
    """As in `hybrid status | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hybrid", "status", "--control", shop.address],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_output_that_is_full_is_told(shop: ControlPeer) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hybrid", "status", "--control", shop.address],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "hybrid: error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("redirection", "code", "told"),
    [("status >&-", 1, "stdout is closed"), ("reload 2>&-", 0, "generation 8"), ("top <&- | head -1", 0, "pid 4711")],
)
def test_closed_streams_are_no_traceback(shop: ControlPeer, redirection: str, code: int, told: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -P -m hybrid {redirection}', sys.executable],
        env={**os.environ, "HYBRID_CONTROL": shop.address},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert told in done.stdout
    assert "Traceback" not in done.stdout


def test_ctrl_c_says_that_the_supervisor_goes_on(hybrid_command: Command) -> None:
    with ControlPeer(reload=after({"ready": 0, "of": 2}, then=silence)) as peer:
        process = hybrid_command("reload", "--control", peer.address)
        process.wait_for_log("0 of 2 workers ready")
        process.signal(signal.SIGINT)
        assert process.wait() == 1
    assert "interrupted; the supervisor goes on with reload: see hybrid status" in process.stderr


@pytest.mark.parametrize("words", [("status", "--watch", "10ms"), ("top",), ("status", "--json", "--watch", "10ms")])
def test_watching_repeats_until_ctrl_c(hybrid_command: Command, words: tuple[str, ...]) -> None:
    """`top` without a terminal is the same."""
    asked_twice: list[object] = []

    def answer(request: dict[str, Any]) -> list[object]:
        asked_twice.append(request)
        if len(asked_twice) == 2:
            os.kill(process.pid, signal.SIGINT)
        return [*result(**status())(request)]

    with ControlPeer(status=answer) as peer:
        process = hybrid_command(*words, env={"HYBRID_CONTROL": peer.address})
        assert process.wait() == 0
    shown = process.stdout.count('{"name": "shop"' if "--json" in words else "SLOT   PID")
    assert shown >= 1
    assert "\x1b" not in process.stdout


# --- which supervisor


def finding(answered: Answered, *words: str, peer: ControlPeer | None = None, until: str = "") -> tuple[int, str, str]:
    """Run a command that has half a second to find a supervisor: again and again, as the machine may be busy.

    It ends well, or writes `until`, once it has found it.
    """
    for _ in range(ATTEMPTS):
        code, out, err = answered(peer, *words)
        if until in out + err if until else code == 0:
            break
    return code, out, err


def test_a_supervisor_is_named(found: ControlPeer, answered: Answered) -> None:
    assert finding(answered, "status", "-n", name_of(found))[0] == 0
    assert "status" in [request["request"] for request in found.asked]


def test_a_socket_is_named_by_its_path(tmp_path: Path, answered: Answered) -> None:
    with ControlPeer(address=str(tmp_path / "control")) as peer:
        assert answered(None, "status", "--control", peer.address)[0] == 0


@pytest.mark.parametrize("value", ["auto", "off", ""])
def test_what_the_variable_says_to_hybrid_run_names_no_socket(
    found: ControlPeer, answered: Answered, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HYBRID_CONTROL", value)
    assert finding(answered, "status", "-n", name_of(found))[0] == 0


def test_a_name_on_the_command_line_overrides_the_variable(found: ControlPeer, answered: Answered) -> None:
    with ControlPeer() as other:
        assert finding(answered, "status", "-n", name_of(found), peer=other)[0] == 0
        assert other.asked == []


def test_a_name_that_is_not_there_is_told_with_those_that_are(found: ControlPeer, answered: Answered) -> None:
    code, _, err = finding(answered, "status", "-n", "nowhere", until=name_of(found))
    assert code == 1
    assert err.startswith("hybrid: error: there is no supervisor 'nowhere', but ")


def test_several_of_a_name_are_a_mistake_of_the_command_line(answered: Answered) -> None:
    name = f"twice-{secrets.token_hex(4)}"
    greeting = {**GREETING, "name": name}
    with (
        ControlPeer(greeting=greeting, address=f"@hybrid/{name}/1.01"),
        ControlPeer(greeting={**greeting, "pid": 1}, address=f"@hybrid/{name}/1.02"),
    ):
        code, _, err = finding(answered, "status", "-n", name, until="several")
    assert code == 2
    assert f"{name} (pid 1), {name} (pid 4711): write -n 1" in err


def test_a_socket_where_nothing_listens_is_told(answered: Answered) -> None:
    code, _, err = answered(None, "status", "--control", "/nowhere/control")
    assert (code, err) == (1, "hybrid: error: there is no control socket /nowhere/control: see hybrid ps\n")


def test_ps_lists_each_supervisor(found: ControlPeer, answered: Answered) -> None:
    code, out, _ = finding(answered, "ps", until=f"{name_of(found)}  4711  3d")
    assert code == 0
    assert [name_of(found), "4711", "3d", "web", "http://0.0.0.0:8000"] in [line.split() for line in out.splitlines()]


# --- completion of a shell, start


@pytest.mark.parametrize(
    ("line", "place", "expected"),
    [
        ("hybrid status ", 2, ["web", "chat"]),
        ("hybrid reload c", 2, ["chat"]),
        ("hybrid restart ", 2, ["web/0", "web/1", "chat/0", "chat/1"]),
        ("hybrid restart web/1", 2, ["web/1"]),
    ],
)
def test_a_shell_completes_names_from_the_running_supervisor(line: str, place: int, expected: list[str]) -> None:
    services = status(service(), service("chat"))
    with ControlPeer(status=result(**services)) as peer:
        for _ in range(ATTEMPTS):  # each has half a second for the answer, and the machine may be busy
            if found := _completed(line, place, HYBRID_CONTROL=peer.address):
                break
    assert found == expected


def test_completion_is_quiet_without_a_supervisor() -> None:
    assert _completed("hybrid status ", 2, HYBRID_CONTROL="/nowhere/control") == []


def test_a_shell_completes_the_commands() -> None:
    assert _completed("hybrid re", 1) == ["reload", "restart"]


def _completed(line: str, place: int, **variables: str) -> list[str]:
    """Return what bash would offer: `COMP_WORDS` is the line, `COMP_CWORD` the number of the word."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    environment |= {"_HYBRID_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(place), **variables}
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from hybrid.cli.entry import main; main()"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return [offer.partition(",")[2] for offer in done.stdout.splitlines() if offer]


def test_the_entry_knows_the_commands_for_a_running_supervisor() -> None:
    from hybrid.cli.control_commands import COMMANDS

    assert list(CONTROL) == [each.name for each in COMMANDS]
    assert list(all_commands())[-len(CONTROL) :] == list(CONTROL)


def test_a_command_for_a_running_supervisor_imports_neither_side_nor_colours(shop: ControlPeer) -> None:
    code = (
        "import sys\nfrom hybrid.cli.entry import main\ntry:\n    main()\nfinally:\n"
        "    print([name for name in sys.modules if name.startswith(('hybrid.supervisor.', 'hybrid.workers.', 'rich.',"
        " 'asyncio', 'gevent'))], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "status", "--control", shop.address],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == "[]\n"


def test_an_odd_worker_of_a_newer_server_is_shown(answered: Answered) -> None:
    newer = status(service("größe/店", workers=[worker(0, state="hibernating", busy="much", pid=None)]), later={})
    with ControlPeer(status=result(**newer)) as peer:
        code, out, _ = answered(peer, "status")
    assert code == 0
    assert "größe/店/0  -    hibernating" in out


def test_the_metrics_are_printed_as_openmetrics(shop: ControlPeer, answered: Answered) -> None:
    code, out, err = answered(shop, "metrics")
    assert (code, err) == (0, "")
    names = {family.name for family in text_string_to_metric_families(out)}
    assert {"hybrid_requests", "hybrid_saturation", "hybrid_request_seconds"} <= names


def test_metrics_of_another_version_are_no_traceback(answered: Answered) -> None:
    with ControlPeer(status=result(name="shop")) as peer:
        code, out, err = answered(peer, "metrics")
    assert (code, out) == (1, "")
    assert "of another version" in err


def test_the_lines_that_block_are_listed(shop: ControlPeer, answered: Answered) -> None:
    _, out, _ = answered(shop, "status", "--blockers")
    title, line = out.splitlines()
    assert title.split() == ["SERVICE", "STALLS", "LONGEST", "WHERE"]
    assert line.split(maxsplit=4) == ["web", "12", "2.3", "s", "shop/prices.py:88 in recompute"]
    _, out, _ = answered(shop, "status", "--blockers", "--json")
    assert json.loads(out)["blockers"][0]["stalls"] == 12


def test_without_blockers_there_is_a_sentence(answered: Answered) -> None:
    with ControlPeer(blockers=result(blockers=[])) as peer:
        assert answered(peer, "status", "--blockers")[1] == "No loop has stood still.\n"


def test_labels_are_listed_with_their_shares(shop: ControlPeer, answered: Answered) -> None:
    _, out, _ = answered(shop, "status", "--labels")
    title, *lines = [line.split() for line in out.splitlines()]
    assert title == ["SERVICE", "LABEL", "REQUESTS", "4XX", "5XX", "MEAN", "LOOP", "SHARE", "CPU", "SHARE"]
    assert lines == [
        ["web", "checkout", "400", "8", "2", "200", "ms", "30.0", "s", "75%", "24.0", "s", "80%"],
        ["web", "search", "9000", "0", "0", "100", "ms", "10.0", "s", "25%", "6.0", "s", "20%"],
    ]
    _, out, _ = answered(shop, "status", "--labels", "--json")
    assert [one["label"] for one in json.loads(out)["labels"]] == ["checkout", "search"]


def test_without_labels_there_is_a_sentence(answered: Answered) -> None:
    with ControlPeer(labels=result(labels=[])) as peer:
        out = answered(peer, "status", "--labels")[1]
    assert out == "No requests were counted by label: hybrid run --accounting counts them.\n"


def test_a_row_of_nothing_has_dashes(answered: Answered) -> None:
    with ControlPeer(labels=result(labels=[{"service": "web", "label": "a"}])) as peer:
        out = answered(peer, "status", "--labels")[1]
    assert out.splitlines()[1].split() == ["web", "a", *["-"] * 8]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--labels", "--blockers"), "two tables"),
        (("--labels", "--watch", "1s"), "--labels is shown once"),
        (("--blockers", "--watch", "1s"), "--blockers is shown once"),
    ],
)
def test_a_table_is_shown_alone_and_once(
    options: tuple[str, ...], why: str, shop: ControlPeer, answered: Answered
) -> None:
    code, _, err = answered(shop, "status", *options)
    assert code == 2
    assert why in err


def test_the_metrics_have_the_labels(shop: ControlPeer, answered: Answered) -> None:
    out = answered(shop, "metrics")[1]
    found = {
        sample.labels["label"]: sample.value
        for family in text_string_to_metric_families(out)
        for sample in family.samples
        if sample.name == "hybrid_label_loop_seconds_total"
    }
    assert found == {"checkout": 30.0, "search": 10.0}


def test_the_metrics_of_a_supervisor_that_knows_no_labels_lack_them(answered: Answered) -> None:
    with ControlPeer(labels=failure("bad_request", "unknown request labels")) as peer:
        code, out, err = answered(peer, "metrics")
    assert (code, err) == (0, "")
    assert "hybrid_workers_wanted" in out
    assert "hybrid_label_requests_total{" not in out
