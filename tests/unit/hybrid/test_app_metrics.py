"""Metrics of applications at a scrape: of one service and of several, and what is left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from support.control_peer import service, status
from support.limits import scarce_descriptors

from hybrid.metrics.application import AppMetrics
from hybrid.metrics.exposition import OPENMETRICS, render
from hybrid.metrics.files import files_of


class Home:
    """A private directory with the directories of services."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = AppMetrics()

    def writes(self, service: str, code: str) -> None:
        """Run code of an application in a process of its own."""
        directory = self.path / f"of-{service}"
        directory.mkdir(exist_ok=True)
        code = f"from prometheus_client import *\n{code}"
        subprocess.run(
            [sys.executable, "-c", code], env={"PROMETHEUS_MULTIPROC_DIR": str(directory)}, check=True, timeout=60
        )

    def text(self, *services: str) -> str:
        """Return what a scrape tells."""
        status: dict[str, Any] = {"services": [{"name": name} for name in services]}
        content_type, text = self.reader.of(files_of(status, str(self.path))).text("text/plain")
        assert content_type.startswith("text/plain")
        return text.decode()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_processes_of_one_service_are_added_up(home: Home) -> None:
    for _ in range(2):
        home.writes("web", "Counter('sold', 'Sold.', ['what']).labels('tea').inc(2)")
    assert home.text("web", "admin").splitlines() == [
        "# HELP sold_total Sold.",
        "# TYPE sold_total counter",
        'sold_total{what="tea"} 4.0',
    ]


def test_several_services_are_told_apart_and_a_label_of_the_application_stays(home: Home) -> None:
    home.writes("web", "Counter('sold', 'Sold.', ['service']).labels('bank').inc()")
    home.writes("chat", "Counter('sold', 'Sold.').inc(3)")
    found = home.text("web", "chat").splitlines()
    assert found.count("# TYPE sold_total counter") == 1
    assert {'sold_total{exported_service="bank",service="web"} 1.0', 'sold_total{service="chat"} 3.0'} <= set(found)


def test_a_service_that_the_status_does_not_have_is_left_out(home: Home) -> None:
    home.writes("web", "Counter('sold', 'Sold.').inc()")
    home.writes("gone", "Counter('sold', 'Sold.').inc()")
    assert "sold_total 1.0" in home.text("web").splitlines()
    assert home.text("other") == ""


def test_names_of_hybrid_and_other_kinds_of_one_name_are_left_out_and_logged_once(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.writes("web", "Counter('hybrid_requests', 'x').inc(); Counter('sold', 'Sold.').inc()")
    home.writes("chat", "Gauge('sold', 'Sold.', multiprocess_mode='sum').inc()")
    for _ in range(2):
        found = home.text("web", "chat")
        assert "hybrid_requests" not in found
        assert 'sold_total{service="web"} 1.0' in found
        assert 'service="chat"' not in found
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("content", [b"", b"\x40" + b"\0" * 7 + b"\xff" * 92, b"\0" * 2])
def test_a_file_that_is_broken_is_left_out_and_logged_once(
    home: Home, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    home.writes("web", "Counter('sold', 'Sold.').inc()")
    (home.path / "of-web" / "counter_9.db").write_bytes(content)
    for _ in range(2):
        assert "sold_total 1.0" in home.text("web").splitlines()
    assert [text for text in caplog.messages if "counter_9.db cannot be read" in text] == caplog.messages
    assert len(caplog.messages) == 1


def test_files_that_contradict_each_other_are_left_out(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """A name that was a histogram before a reload, and is a summary now."""
    home.writes("web", "Histogram('took', 'Took.').observe(1)")
    home.writes("web", "Summary('took', 'Took.', ['le']).labels('tea').observe(1)")
    assert home.text("web") == ""
    assert "contradict each other" in caplog.text


def test_without_a_directory_or_a_file_in_it_there_is_nothing(tmp_path: Path) -> None:
    status: dict[str, Any] = {"services": [{"name": "web"}]}
    (tmp_path / "of-web").mkdir()
    assert files_of(status, "") == files_of(status, str(tmp_path)) == files_of(status, str(tmp_path / "none")) == {}


def test_without_a_spare_descriptor_no_file_is_left_out(home: Home) -> None:
    """Without some of the files, counts would go backwards."""
    home.writes("web", "Counter('sold', 'Sold.').inc()")
    files = files_of({"services": [{"name": "web"}]}, str(home.path))
    with scarce_descriptors(0):
        with pytest.raises(OSError, match="Too many open files"):
            home.text("web")
        with pytest.raises(OSError, match="Too many open files"):
            home.reader.of(files).text("")
    assert "sold_total 1.0" in home.text("web")


def test_metrics_of_an_application_follow_those_of_hybrid(home: Home) -> None:
    home.writes("web", "Counter('sold', 'Sold.').inc(3)")
    found = status(service())
    content_type, text = render(found, OPENMETRICS, home.reader.of(files_of(found, str(home.path))))
    assert content_type.startswith("application/openmetrics-text")
    names = {sample.name: sample.value for family in openmetrics(text.decode()) for sample in family.samples}
    assert (names["sold_total"], "hybrid_generation" in names) == (3, True)
