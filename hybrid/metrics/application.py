"""The metrics of the applications, from the files that their workers write with prometheus_client.

AppMetrics    reads the files of a service; one that cannot be read is left out
AppSource     those of all services, a source for `exposition.render`

Imported at the first scrape that finds files: the library takes 5 MB and 60 ms, and most of that is an HTTP server.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_OURS: Final = "hybrid_"
_merge: Callable[[list[str]], Iterable[Family]] = MultiProcessCollector.merge
_MOST_LOGGED: Final = 100  # complaints that are remembered, to be logged once
_SCARCE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))  # the fault is not in a file
logger = logging.getLogger("hybrid")


class AppMetrics:
    """Reads the directories of the services. Its methods block for the files, and may be called in any thread."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def of(self, files: Mapping[str, list[str]]) -> AppSource:
        """Return the source for some services: service -> its files."""
        return AppSource(self, files)

    def read(self, service: str, files: list[str]) -> list[Family]:
        """Return the metrics of a service. Raises `OSError` if descriptors or memory are scarce."""
        try:
            return list(_merge(files))
        except Exception:  # noqa: BLE001 - a file that was removed meanwhile, or is broken: find out which
            files = [file for file in files if self._is_readable(service, file)]
        try:
            return list(_merge(files))
        except Exception as error:  # noqa: BLE001 - they are of different kinds of one name: the application has changed
            self.complain(service, f"its files contradict each other: {error!r}")
            return []

    def _is_readable(self, service: str, file: str) -> bool:
        try:
            _merge([file])
        except FileNotFoundError:  # a gauge of a worker that has died
            return False
        except OSError as error:
            if error.errno in _SCARCE:  # without this file, counts would go backwards
                raise
            self.complain(service, f"{file} cannot be read: {error!r}")
            return False
        except Exception as error:  # noqa: BLE001 - any bytes may be in there
            self.complain(service, f"{file} cannot be read: {error!r}")
            return False
        return True

    def complain(self, service: str, what: str) -> None:
        """Log why metrics are left out, once."""
        if what not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(what)
            logger.warning("metrics of service %s are left out: %s", service, what)


class AppSource(Collector):
    """The metrics of some services, for one scrape."""

    def __init__(self, reader: AppMetrics, files: Mapping[str, list[str]]) -> None:
        """`files`: service -> its files."""
        self._reader = reader
        self._files = files

    def text(self, accept: str) -> tuple[str, bytes]:
        """Return the content type, which is one that `accept` asks for, and the text. Raises as `AppMetrics.read`."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        encode, content_type = choose_encoder(accept)
        return content_type, encode(registry)

    def collect(self) -> Iterator[Family]:
        """Yield each metric once; with the label `service` if there are several services."""
        found: dict[str, Family] = {}
        for service, files in self._files.items():
            for family in self._reader.read(service, files):
                if family.name.startswith(_OURS):
                    self._reader.complain(service, f"{family.name} begins as the metrics of hybrid itself do")
                    continue
                if len(self._files) > 1:
                    family.samples = [_labelled(sample, service) for sample in family.samples]
                known = found.setdefault(family.name, family)
                if known.type != family.type:
                    self._reader.complain(service, f"{family.name} is a {known.type} in another service")
                elif known is not family:
                    known.samples += family.samples
        yield from found.values()


def _labelled(sample: Sample, service: str) -> Sample:
    """Return a sample with the label `service`; one of the application is renamed, as Prometheus does at a scrape."""
    labels = dict(sample.labels)
    if "service" in labels:
        labels["exported_service"] = labels.pop("service")
    return sample._replace(labels={**labels, "service": service})
