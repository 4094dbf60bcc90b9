"""Which of the running supervisors is meant. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.control.errors import ChoiceError
from hybrid.control.finding import Found


def choose(found: Sequence[Found], uid: int, wanted: str | None = None) -> Found:
    """Return the supervisor with the name or pid `wanted`; without it the only one of the account `uid`.

    Supervisors of other accounts count only if they are named. Raises `ChoiceError`.
    """
    own = [one for one in found if one.uid == uid]
    if wanted is None:
        candidates = own
    else:
        candidates = [one for one in own if _is_named(one, wanted)] or [one for one in found if _is_named(one, wanted)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        named = _listed(candidates)
        raise ChoiceError(f"several supervisors are running: {named}: write {_how(candidates)}", is_ambiguous=True)
    raise ChoiceError(_why_none(found, wanted), is_ambiguous=False)


def _why_none(found: Sequence[Found], wanted: str | None) -> str:
    if wanted is None and not found:
        return (
            "no supervisor is running here that this account may ask: start one with hybrid run, or name the control "
            "socket with --control PATH"
        )
    if wanted is None:
        return f"no supervisor of this account is running, only of others: {_listed(found)}: write {_how(found)}"
    if not found:
        return f"there is no supervisor {wanted!r}: none is running here that this account may ask"
    return f"there is no supervisor {wanted!r}, but {_listed(found)}: write {_how(found)}"


def _is_named(one: Found, wanted: str) -> bool:
    return wanted == one.greeting.name or (one.greeting.pid is not None and wanted == str(one.greeting.pid))


def _listed(found: Sequence[Found]) -> str:
    return ", ".join(f"{one.greeting.name} (pid {one.greeting.pid})" for one in found)


def _how(found: Sequence[Found]) -> str:
    """Return the option that picks the first one."""
    first = found[0]
    if [one.greeting.name for one in found].count(first.greeting.name) == 1:
        return f"-n {first.greeting.name}"
    if [one.greeting.pid for one in found].count(first.greeting.pid) == 1:
        return f"-n {first.greeting.pid}"
    return f"--control {first.address}"  # containers that share a network, but not their pids
