"""The documents written by hand: what they say about commands, options, codes, states, names and files is so.

Links and the generated option reference are checked in `tests/test_docs.py`.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {ROOT / "docs/options.md", ROOT / "docs/strictness.md"}
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")} - GENERATED)
PARTS = ("hybrid", "supervisor", "workers", "tests", "benchmarks", "examples", "docs")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_VARIABLE = re.compile(r"\bHYBRID_[A-Z_]+")
_NAME = re.compile(r"(?<![\w./-])hybrid\.([a-z_]+|[A-Z]\w+)\b(?!\.py)")
_FILE = re.compile(rf"(?:{'|'.join(PARTS)})/[\w./-]*")

# options of other programs that the documents mention: program -> options
FOREIGN = {
    "pip": {"--quiet", "--editable", "--no-cache-dir"},
    "mypy": {"--strict"},
    "pytest": {"--left-out"},
    "docker": {"--init", "--cpus", "--signal"},
    "celery": {"--app"},
    "curl": {"--data-binary"},
    "dask": {"--host", "--nthreads", "--nworkers"},
    "helm": {"--create-namespace", "--repo"},
    "python -m benchmarks": {"--runs", "--seconds", "--only"},
    "gunicorn": {
        "--access-logfile", "--access-logformat", "--asgi-lifespan", "--cert-reqs", "--check-config", "--daemon",
        "--capture-output", "--error-logfile", "--log-config-json",
        "--header-map", "--http-protocols", "--keep-alive", "--limit-request-field", "--limit-request-fields",
        "--limit-request-line", "--max-requests-jitter", "--pid", "--proxy-allow-from", "--reload-extra-file",
        "--reuse-port", "--statsd-host", "--timeout", "--umask", "--websocket-max-message-size", "--worker-class",
        "--worker-connections",
    },
    "uvicorn": {
        "--app-dir", "--env-file", "--fd", "--header", "--host", "--http", "--http2", "--limit-concurrency",
        "--limit-max-requests", "--log-config", "--port", "--proxy-headers", "--ssl-ca-certs", "--ssl-cert-reqs",
        "--ssl-certfile", "--ssl-ciphers", "--ssl-keyfile", "--ssl-keyfile-password", "--timeout-graceful-shutdown",
        "--timeout-keep-alive", "--uds", "--ws", "--ws-max-queue", "--ws-max-size", "--ws-per-message-deflate",
        "--ws-ping-interval", "--ws-ping-timeout",
    },
    "granian": {
        "--access-log-fmt", "--backpressure", "--blocking-threads", "--env-files", "--http1-header-read-timeout",
        "--metrics", "--pid-file",
        "--reload-ignore-patterns", "--reload-paths", "--respawn-failed-workers", "--ssl-ca", "--ssl-certificate",
        "--ssl-client-verify", "--static-path-mount", "--uds-permissions", "--url-path-prefix",
        "--workers-kill-timeout", "--workers-lifetime", "--workers-max-rss", "--working-dir",
    },
}  # fmt: skip
FOREIGN_VARIABLES = {"HYBRID_TEST_EXEC", "HYBRID_TEST_LOOP", "HYBRID_CI_MATRIX"}  # of the tests and of .ci/run


def _text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def _fences(document: Path, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(_text(document)) if language in languages]


def _code(document: Path) -> str:
    """Everything that is set as code: fenced blocks and spans."""
    text = _text(document)
    return "\n".join([*(body for _, body in _FENCE.findall(text)), *_SPAN.findall(_FENCE.sub("", text))])


def _table(document: Path, first_column: str) -> list[list[str]]:
    """The rows below the header whose first cell is `first_column`, as cells without code marks."""
    lines = iter(_text(document).splitlines())
    header = next(line for line in lines if line.startswith(f"| {first_column} |"))
    next(lines)  # the ruler
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    assert rows, f"the table {header!r} is empty"
    return rows


def _options_of_the_command() -> Iterator[click.Option]:
    from hybrid.cli.commands import all_commands, command

    for described in (command, *all_commands().values()):
        context = click.Context(described, **described.context_settings)
        yield from (one for one in described.get_params(context) if isinstance(one, click.Option))


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_options_exist(document: Path) -> None:
    known = {name for option in _options_of_the_command() for name in (*option.opts, *option.secondary_opts)}
    assert sorted(set(_OPTION.findall(_code(document))) - known.union(*FOREIGN.values())) == []


@every_document
def test_environment_variables_exist(document: Path) -> None:
    from hybrid.supervisor.children.command import SERVICE_VARIABLE, SLOT_VARIABLE

    known = {name for option in _options_of_the_command() for name in option.envvar or ()}
    known |= {name.replace("HYBRID_", "HYBRID_SERVICE_WEB_", 1) for name in known} | FOREIGN_VARIABLES
    assert sorted(set(_VARIABLE.findall(_code(document))) - known - {SERVICE_VARIABLE, SLOT_VARIABLE}) == []


@every_document
def test_python_blocks_compile(document: Path) -> None:
    for block in _fences(document, "python"):
        compile(block, str(document), "exec", ast.PyCF_ONLY_AST, dont_inherit=True)


@every_document
def test_public_names_exist(document: Path) -> None:
    """`hybrid.spawn` and the like: a public name, or a module. `hybrid.toml` is a file."""
    import hybrid

    mentioned = set(_NAME.findall(_code(document))) - {"toml", "request_id"}  # a file; a key of environ and scope
    unknown = [name for name in mentioned - set(hybrid.__all__) if not _is_module(f"hybrid.{name}")]
    assert unknown == []


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@every_document
def test_files_of_the_repository_exist(document: Path) -> None:
    """Capital letters stand for a name of the reader's choice, as in `workers/loops/NAME_loop.py`."""
    mentioned = {path.rstrip("./") for span in _SPAN.findall(_text(document)) for path in _FILE.findall(span)}
    gone = [path for path in mentioned if not re.search(r"[A-Z]{2}", path) and not (ROOT / path).exists()]
    assert [path for path in gone if path != "benchmarks/.build"] == []


def test_the_readme_has_exactly_two_commands_that_set_up_everything() -> None:
    commands = [line for block in _fences(ROOT / "README.md", "sh") for line in block.splitlines() if "venv" in line]
    run, test = commands
    for command in commands:
        assert command.startswith("python3.11 -m venv .venv && .venv/bin/pip install --quiet ")
    assert run.endswith("&& .venv/bin/hybrid run")
    assert test.endswith("&& .venv/bin/pytest -n auto")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """`.ci/run` takes the first line of a code block of the README that has `pytest` in it."""
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "inside && /pytest/" in script
    assert "README.md" in script
    first = next(line for _, body in _FENCE.findall(_text(ROOT / "README.md")) for line in body.splitlines()
                 if "pytest" in line)  # fmt: skip
    assert first.startswith("python3.11 -m venv ")


def test_the_table_of_exit_codes_is_the_enum() -> None:
    from hybrid.workers.contract.exits import Exit

    told = {int(code): name for code, name, _ in _table(ROOT / "docs/signals.md", "code")}
    assert told == {int(code): code.name for code in Exit}


def test_the_table_of_states_is_the_machines() -> None:
    from hybrid.supervisor.core.states import TRANSITIONS, News, State

    told = {
        (State(state), news): State(after)
        for state, *cells in _table(ROOT / "docs/architecture.md", "state")
        for news, after in zip((*News,), cells, strict=True)
    }
    assert told == dict(TRANSITIONS)


def test_the_table_of_phases_is_the_readers() -> None:
    from hybrid.workers.http.h1.phases import TRANSITIONS, Event, ReaderPhase

    told = {
        (ReaderPhase(phase), event): ReaderPhase(after)
        for phase, *cells in _table(ROOT / "docs/architecture.md", "phase")
        for event, after in zip((*Event,), cells, strict=True)
    }
    assert told == dict(TRANSITIONS)


def test_the_events_and_actions_named_are_all_there_are() -> None:
    from typing import get_args

    from hybrid.supervisor.core import events

    cells = [_SPAN.findall(f"`{cell}`") for row in _table(ROOT / "docs/architecture.md", "events") for cell in row]
    told = {name for names in cells for name in names if name.isidentifier()}
    assert told == {kind.__name__ for kind in (*get_args(events.Event), *get_args(events.Action))}


def _limits() -> dict[str, click.Option]:
    """The options that limit clients: all under Limits, and two that stand elsewhere in the help."""
    from hybrid.cli.commands import command
    from hybrid.cli.sections import SectionedCommand
    from hybrid.config.declaring import Section

    run = command.commands["run"]
    assert isinstance(run, SectionedCommand)
    sections = dict(run.sections(click.Context(run, **run.context_settings)))  # the command keeps its first --help
    elsewhere = [one for one in sections[Section.HTTP] if one.opts[0].startswith("--websocket-ping")]
    elsewhere += [one for one in sections[Section.TLS] if one.opts[0] == "--tls-handshake-timeout"]
    return {one.opts[0]: one for one in (*sections[Section.LIMITS], *elsewhere)}


def test_the_table_of_limits_has_all_of_them_with_their_defaults() -> None:
    told = {row[0]: row[1] for row in _table(ROOT / "docs/http.md", "option")}
    context = click.Context(click.Command("run"), show_default=True)
    assert told == {name: str(option.get_help_extra(context)["default"]) for name, option in _limits().items()}


def test_the_places_of_the_access_log_are_all_there_are() -> None:
    from hybrid.workers.http.access.line import COMBINED, COMMON, check_format
    from hybrid.workers.http.access.record import ATOMS

    text = _text(ROOT / "docs/http.md")
    assert set(re.findall(r"%\(([A-Za-z])\)s", text)) == set(ATOMS)
    assert f"`{COMMON}`" in text
    assert f"`{COMBINED.removeprefix(COMMON).strip()}`" in text
    for form in re.findall(r"--access-log='([^']+)'", text):
        check_format(form)


def test_the_keys_of_the_access_log_in_json_are_all_there_are() -> None:
    from hybrid.workers.http.access.line import formatter
    from hybrid.workers.http.access.record import AccessRecord

    labels = {"service": "web", "slot": 0, "generation": 1, "pid": 1}
    record = AccessRecord(None, "GET", b"/", "1.1", 200, 0, 0.0, [], b"", "http", 0.0, request_id="a")
    told = next(row[1] for row in _table(ROOT / "docs/http.md", "form") if row[0] == "json")
    assert told.removeprefix("an object: ").split(", ") == list(json.loads(formatter("json", labels)(record)))


def test_the_extensions_of_asgi_are_all_named() -> None:
    from hybrid.workers.apps.asgi.call import EXTENSIONS, PATHSEND, SPEC_VERSION

    text = _text(ROOT / "docs/http.md")
    assert [name for name in (*EXTENSIONS, PATHSEND, "websocket.http.response") if f"`{name}`" not in text] == []
    assert f"specification {SPEC_VERSION}" in text


@pytest.mark.parametrize("document", ["docs/http.md", "docs/tuning.md"])
def test_the_default_pool_of_threads_has_the_size_that_is_told(document: str) -> None:
    from hybrid.workers.apps.wsgi.interface import THREADS

    assert set(re.findall(r"(\d+) threads", _text(ROOT / document))) == {str(THREADS)}


def test_the_times_of_a_stop_are_those_that_are_told() -> None:
    from hybrid.workers.http.websocket.session import CLOSE_TIMEOUT
    from hybrid.workers.serving import CLEAN_UP, INTERRUPT

    text = _text(ROOT / "docs/http.md")
    assert f"{CLEAN_UP + INTERRUPT:g} s before the deadline `receive` returns" in text
    assert f"all others {CLEAN_UP:g} s before the deadline" in text
    assert f"The client gets {CLOSE_TIMEOUT:g} seconds to answer a close frame" in text
    assert f"{INTERRUPT:g} s before the next line" in _text(ROOT / "docs/signals.md")


@pytest.mark.parametrize("document", ["docs/handlers.md", "docs/http.md", "docs/tuning.md"])
def test_every_loop_is_explained(document: str) -> None:
    from hybrid.workers.loops.registry import LOOPS

    assert [name for name in LOOPS if f"`{name}`" not in _text(ROOT / document)] == []


def test_a_wrong_option_would_be_found(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("Use `--wokers 3`, or\n\n```sh\nhybrid run --bind 127.0.0.1:0 --pim\n```\n")
    known = {name for option in _options_of_the_command() for name in option.opts}
    assert set(_OPTION.findall(_code(document))) - known == {"--wokers", "--pim"}
