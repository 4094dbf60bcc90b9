"""Reads the configuration again, and applies it to a running supervisor: HUP, or `hybrid reload`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from hybrid.supervisor.children.log_files import LogFileError, LogFiles
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER
from hybrid.supervisor.core.tree import Tree
from hybrid.supervisor.deployment import CannotReread, Deployment, ServiceSpec
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.estate import Estate
from hybrid.supervisor.revision import OF_SUPERVISOR, Change, revise
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.happenings import Happenings
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)


class Refitting:
    """The configuration in use. `reread` blocks while it is read and while sockets are opened."""

    def __init__(
        self,
        deployment: Deployment,
        tree: Tree,
        estate: Estate,
        branches: Mapping[str, Branch],
        happenings: Happenings,
        add: Callable[[ServiceSpec, int], None],
        feed: Callable[[str, ev.Event], None],
        remove: Callable[[str], None],
        files: LogFiles,
    ) -> None:
        """`add` starts a service whose sockets are open, `feed` gives the tree an event, `remove` stops a service."""
        self._deployment = deployment
        self._tree = tree
        self._estate = estate
        self._branches = branches
        self._happenings = happenings
        self._add = add
        self._feed = feed
        self._remove = remove
        self._files = files

    @property
    def log_level(self) -> str:
        """The log level of the supervisor, as configured."""
        return self._deployment.first.log_level

    def reread(self) -> None:
        """Apply the configuration as it is now. Raises `CannotReread`; then nothing has changed.

        The caller reloads the services that run afterwards.
        """
        if self._deployment.reread is None or self._tree.phase in OVER:
            return
        if self._tree.is_upgrading:
            raise CannotReread("an upgrade is in progress")
        new = self._deployment.reread()
        revision = revise(self._deployment, new)
        self._open_all(revision.added)
        for spec in revision.added:
            self._begin(spec, "added to the configuration")
        before_all = _named(self._deployment)
        keys = dict.fromkeys(key for change in revision.kept.values() for key in change.needs_upgrade)
        _tell_of_upgrade([key for key in keys if key in OF_SUPERVISOR])
        for name, change in revision.kept.items():
            self._change(name, change)
            if change.spec.settings.is_sidecar and change.spec != before_all[name]:
                self._feed(name, ev.ReloadAsked())  # a reload of all leaves it out: mostly it has not changed
        self._tree.shutdown_delay = new.shutdown_delay
        for name in revision.removed:  # after those that were added: without any service, the supervisor would end
            logger.info("no longer in the configuration: stopping", extra={"service": name})
            self._happenings.publish("service", name, change="removed")
            self._remove(name)
        before = self._deployment.first.log_level
        kept = (revision.kept[name].spec if name in revision.kept else spec for name, spec in _named(new).items())
        self._deployment = new.with_services(kept)
        if self.log_level != before and logger.level == level_number(before):  # else an operator has set another one
            logger.setLevel(level_number(self.log_level))

    def _open_all(self, specs: Iterable[ServiceSpec]) -> None:
        """Open the sockets of new services. Raises `CannotReread`; then none is left open."""
        opened: list[str] = []
        try:
            for spec in specs:
                self._open(spec.settings)
                opened.append(spec.settings.service)
        except CannotReread:
            for name in opened:
                self._estate.close(name)
            raise

    def _open(self, settings: Settings) -> None:
        """Open the sockets of a new service. Raises `CannotReread`."""
        if settings.service in self._branches:
            raise CannotReread(f"service {settings.service}: it is still stopping; reload once it has ended")
        try:
            self._files.open(settings)
            self._estate.open(settings)
        except (BindError, LogFileError) as error:
            raise CannotReread(f"service {settings.service}: {error}") from None

    def _change(self, name: str, change: Change) -> None:
        _tell_of_upgrade([key for key in change.needs_upgrade if key not in OF_SUPERVISOR], name)
        self._tree.rule(name, change.spec.settings.rules)
        branch = self._branches.get(name)
        if branch is not None:
            branch.refit(change.spec, change.configured)
            if change.is_scaled:
                self._feed(name, ev.ScaleAsked(change.configured))
        elif self._tree.may_return(name):
            self._return(change.spec)

    def _return(self, spec: ServiceSpec) -> None:
        """Start a service again that has ended. It did not serve, so sockets that cannot be opened are only logged."""
        try:
            self._files.open(spec.settings)
            self._estate.open(spec.settings)
        except (BindError, LogFileError) as error:
            logger.error("cannot start again: %s", error, extra={"service": spec.settings.service})
            return
        self._begin(spec, "starting again")

    def _begin(self, spec: ServiceSpec, why: str) -> None:
        """Add a service whose sockets are open."""
        name = spec.settings.service
        logger.info("%s", why, extra={"service": name})
        for address in self._estate[name].addresses:
            logger.info("listening on %s", address, extra={"service": name})
        self._happenings.publish("service", name, change="added")
        self._add(spec, spec.settings.workers)


def level_number(name: str) -> int:
    """Return a log level as `logging` numbers it."""
    return logging.getLevelNamesMapping()[name.upper()]


def _tell_of_upgrade(keys: Sequence[str], service: str | None = None) -> None:
    """Warn of changes that need an upgrade, if there are any; `service` None: of the supervisor."""
    if keys:
        text = "the configuration has changed in %s: an upgrade (USR2, or hybrid upgrade) applies that"
        logger.warning(text, ", ".join(keys), extra={} if service is None else {"service": service})


def _named(deployment: Deployment) -> dict[str, ServiceSpec]:
    return {spec.settings.service: spec for spec in deployment.services}
