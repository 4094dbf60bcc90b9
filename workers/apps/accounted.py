"""Handlers of streams whose cost is counted by label: each connection is a request. With `--accounting` only.

Other kinds are not counted: a protocol and a handler of datagrams run in callbacks, which belong to no request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from hybrid.workers.apps.detect import Kind
from hybrid.workers.common.accounting import Account, Accounting, Steps
from hybrid.workers.common.labels import REQUEST


def handler(kind: Kind, target: Callable[..., Any], accounting: Accounting) -> Callable[..., Any]:
    """Return a handler of this kind that calls `target` and counts what it costs; `target` for other kinds."""
    match kind:
        case Kind.SYNC_STREAM:
            return _sync(target, accounting)
        case Kind.ASYNC_STREAM:
            return _async(target, accounting)
    return target


@contextlib.contextmanager
def request_of(account: Account) -> Iterator[None]:
    """Give the code of the block, and what it starts, this account to label."""
    token = REQUEST.set(account)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a task that is discarded ends in another context
            REQUEST.reset(token)


def _sync(target: Callable[..., Any], accounting: Accounting) -> Callable[..., Any]:
    def handle(sock: Any, address: Any) -> None:
        account = accounting.open()
        try:
            with request_of(account):
                before = accounting.switch(account)
                try:
                    target(sock, address)
                finally:
                    accounting.switch(before)
        finally:
            accounting.close(account)

    return handle


def _async(target: Callable[..., Any], accounting: Accounting) -> Callable[..., Any]:
    async def call(reader: Any, writer: Any) -> None:
        await target(reader, writer)

    async def handle(reader: Any, writer: Any) -> None:
        account = accounting.open()
        try:
            with request_of(account):
                await Steps(accounting, account, call(reader, writer))
        finally:
            accounting.close(account)

    return handle
