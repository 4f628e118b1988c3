"""Refusals of the authorisation server: https://www.rfc-editor.org/rfc/rfc6749#section-5.2."""

import re
from typing import Final

_NOT_PLAIN: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""What may not stand in an `error_description`."""
_LONGEST: Final = 500


class Refusal(Exception):
    """A request that is refused: the error's code, what is wrong and what is allowed."""

    def __init__(self, error: str, text: str, status: int = 400) -> None:
        self.error: Final = error
        self.status: Final = status
        self.recorded = False
        """Whether the audit has a row of it: of a client that is known."""
        self.text: Final = _NOT_PLAIN.sub("'", text)[:_LONGEST]
        super().__init__(self.text)


def recorded(refusal: Refusal) -> Refusal:
    """After the commit that tells of it."""
    refusal.recorded = True
    return refusal


def invalid_request(text: str) -> Refusal:
    return Refusal("invalid_request", text)


def invalid_client(text: str) -> Refusal:
    return Refusal("invalid_client", text, 401)


def invalid_scope(text: str) -> Refusal:
    return Refusal("invalid_scope", text)
