"""Requests to WSGI applications whose cost is counted by label. With `--accounting` only.

WebSockets of WSGI applications are not counted: their libraries work in threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Any

from hybrid.workers.apps.accounted import request_of
from hybrid.workers.apps.wsgi.call import ExcInfo, WsgiCall
from hybrid.workers.common.accounting import Account
from hybrid.workers.http.exchange import Exchange

_FAILED = 500


class AccountedCall(WsgiCall):
    """A request to a WSGI application."""

    __slots__ = ("_account", "_accounting", "_has_failed")

    def __init__(self, interface: Any, exchange: Exchange) -> None:
        super().__init__(interface, exchange)
        self._accounting = interface.accounting
        self._account: Account | None = None
        self._has_failed = False

    def run(self) -> None:
        """Call the application, send its response, and count what that costs."""
        if self.interface.runner.is_direct:
            self._run_on_the_loop()
        else:
            self._run_in_a_thread()

    def _run_on_the_loop(self) -> None:
        accounting = self._accounting
        self._account = account = accounting.open()
        with request_of(account):
            before = accounting.switch(account)
            try:
                super().run()
            finally:
                accounting.switch(before)
                accounting.close(account, self._status())

    def _run_in_a_thread(self) -> None:
        accounting = self._accounting
        self._account = account = accounting.open_in_thread()
        began = thread_time()
        with request_of(account):
            try:
                super().run()
            finally:
                accounting.close_in_thread(account, self._status(), thread_time() - began)

    def _status(self) -> int:
        """Return the status of the response; in a thread, the loop may not have sent it yet."""
        if self.exchange.status or self.exchange.gone:
            return self.exchange.status
        return _FAILED if self._has_failed or self.status is None else self.status.number

    def _failed(self, error: BaseException) -> None:
        self._has_failed = True
        super()._failed(error)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """See PEP 3333. Removes the field that has the label."""
        name, account = self._accounting.header, self._account
        if name is not None and account is not None:
            fields = list(headers)  # some applications give an iterator
            headers = [field for field in fields if str(field[0]).lower() != name]
            if len(headers) < len(fields):
                self._accounting.header_is(next(value for key, value in fields if str(key).lower() == name), account)
        return super().start_response(status, headers, exc_info)
