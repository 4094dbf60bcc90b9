"""The outcome of a call as bytes: its result, its error with the traceback as text, or why there is neither.

It may travel by value to a Dask worker, see `remote`: it imports nothing that opens or starts anything.
"""

from __future__ import annotations

import traceback
from typing import Any

from hybrid.workers.offload.kinds import FAILED, RAISED, RESULT
from hybrid.workers.offload.packing import Packed, pack_result, unpack


def of_result(result: Any, most: int, option: str = "--offload-max-result") -> tuple[int, Packed]:
    """Return kind and content of the answer for a result.

    `most`: its maximum size in bytes; 0: no limit. `option`: the one that says so, for the text of the error.
    """
    try:
        packed = pack_result(result)
    except TypeError as error:
        return failed(f"the result {error}")
    if most and packed.size > most:
        return failed(too_large(packed.size, most, option))
    return RESULT, packed


def too_large(size: int, most: int, option: str) -> str:
    """Return why a result of so many bytes is not sent."""
    return f"the result has {size} bytes, and {option} allows {most}"


def of_error(error: BaseException) -> tuple[int, Packed]:
    """Return kind and content of the answer for an error. The frame that called the function is left out."""
    own = error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, own and own.tb_next))
    error.__traceback__ = None
    if not isinstance(error, Exception):  # SystemExit and its like are for this process, not for the caller's
        return failed(f"{type(error).__qualname__}: {_words(error)}", text)
    try:
        packed = pack_result((error, text))
        made = unpack(packed.pickle, packed.buffers, is_dill=packed.is_dill)  # some cannot be made again
        if not isinstance(made[0], Exception):
            raise TypeError("it is made again as something else")
    except BaseException:  # noqa: BLE001 - code of its class
        return failed(f"{type(error).__qualname__}: {_words(error)}", text)
    return RAISED, packed


def failed(reason: str, trace: str = "") -> tuple[int, Packed]:
    """Return kind and content of an answer that says why there is no outcome."""
    return FAILED, pack_result((reason, trace))


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - code of its class
        return ""
