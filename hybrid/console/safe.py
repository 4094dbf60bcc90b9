"""Text of a server for a terminal: control characters become visible escapes, so that they move no cursor."""

from __future__ import annotations


def safe(text: str) -> str:
    r"""Return `text` with each character that is not printable as an escape: `\x1b`, `\n`, `\u202e`.

    That includes control characters of both sets, marks that change the direction, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
