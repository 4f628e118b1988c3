"""Links to further pages: sealed, so that nobody reads, edits or prolongs them.

All processes on the store share the secret of the seal (`seal`).
What a caller may see is decided anew on each page: the link holds a place, not a right. It is
good for the caller to whom it was given, at its address, for its time.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.operation.seal import NotSealed, Seal, SealedBefore

_LONG: Final = 1024
"""Bytes of a state from which on it is packed: a search by POST may be long."""
_LONGEST: Final = 60_000
"""Bytes of a token; clients and proxies in between take no longer address."""
_json: Final = json.JSONEncoder(separators=(",", ":"))
_FORM: Final = 2
"""Of what is sealed, and of the states in it: counts their changes from release to release."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Makes and opens the links that one caller gets of one server."""

    seal: Seal
    base: str
    caller: str
    clock: Callable[[], int]
    """Microseconds since the epoch."""
    lifetime: int
    """Seconds for which a link is good."""

    def link(self, address: str, state: Any) -> str:
        """The URL of a further page of what `address`, relative to the base, answered.

        `state` is JSON; decimals become floats.

        Raises:
            FhirError: TOO_COSTLY for a state that no address could hold.
        """
        plain = _json.encode([_FORM, self.caller, address, state]).encode()
        packed = zlib.compress(plain) if len(plain) > _LONG else plain
        sealed = self.seal.sealed(packed, self.clock() // 1_000_000)
        if len(sealed) > _LONGEST:
            raise FhirError(
                Kind.TOO_COSTLY,
                "What is asked is too long to be repeated in a link to the next page; ask for "
                "fewer values, or for all in one page with _count",
            )
        place = address and f"/{address}"
        return f"{self.base}{place}?_page={sealed}"

    def opened(self, address: str, token: str) -> Any:
        """The state in a token that `link` made for the same caller and address.

        Raises:
            FhirError: INVALID for a token that this server did not make, or made for another
                caller or address; GONE for one that is too old, or of another release.
        """
        try:
            plain, made = self.seal.opened(token)
        except SealedBefore:
            raise _gone("The link to this page is one of another release") from None
        except NotSealed:
            raise _refused("The link to this page is not one that the server gave") from None
        # JSON begins with a bracket, what is packed does not.
        form, *rest = json.loads(plain if plain.startswith(b"[") else zlib.decompress(plain))
        if form != _FORM:
            raise _gone("The link to this page is one of another release")
        caller, given_for, state = rest
        if caller != self.caller:
            raise _refused("The link to this page was given to another caller")
        if given_for != address:
            raise _refused(f"The link to this page was given for {given_for}")
        if self.clock() // 1_000_000 - made > self.lifetime:
            raise _gone(f"The link to this page was good for {self.lifetime} s")
        return state


def _gone(text: str) -> FhirError:
    return FhirError.at(Kind.GONE, "http._page", f"{text}; search again")


def _refused(text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, "http._page", text)
