"""The ways in which asking a supervisor fails. Each text is one line for the user."""

from __future__ import annotations


class ControlError(Exception):
    """A supervisor could not be asked, or it did not do as asked."""


class GoneError(ControlError):
    """There is no supervisor at this address, or it has closed the connection."""


class RefusedError(ControlError):
    """The account may not ask, or the supervisor has too many clients."""


class LateError(ControlError):
    """There was no answer before the deadline."""


class OtherProtocolError(ControlError):
    """The other end does not speak a version of the protocol that is known here."""


class RequestError(ControlError):
    """The supervisor answered with an error."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason or code)
        self.code = code
        """One of the codes of the protocol, e.g. `unknown_service`."""


class ChoiceError(ControlError):
    """It is not clear which supervisor is meant; the text says what to type."""

    def __init__(self, reason: str, *, is_ambiguous: bool) -> None:
        super().__init__(reason)
        self.is_ambiguous = is_ambiguous
        """Several are running; False: none."""
