"""What is left of a caller by now, as its client is registered: for work that outlives a token.

A job goes on after the token that began it has expired, and ends where it was revoked. Of the
built-in issuer it is known what the client may have by now. Of another issuer's client it is not:
what goes on for it ends some time after its token has expired, and before where the issuer, who
can be asked about that token until then, says no.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

from fhir_server.access.caller import Caller
from fhir_server.access.issued import ENDED
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients, scopes


async def _nobody_says_no(token: str) -> bool:  # noqa: ARG001
    return True


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Of tokens of other issuers.

    `clock` is in microseconds since the epoch, `outlived` in seconds: for which what a token began
    goes on after it has expired. `stands` says of a token, by its id, whether its issuer still
    calls it good; it raises FhirError UNAVAILABLE.
    """

    clock: Callable[[], int]
    outlived: int
    stands: Callable[[str], Awaitable[bool]] = _nobody_says_no

    async def caller(self, caller: Caller) -> Caller | None:
        """The caller, as long as what their token began goes on."""
        if caller.expires > 0 and self.clock() >= (caller.expires + self.outlived) * 1_000_000:
            return None
        if caller.token and not await self.stands(caller.token):
            return None
        return caller


class Registered:
    """
    Args:
        issuer: the name of the built-in one in its tokens; '' where there is none.
    """

    def __init__(self, ledger: Ledger, issuer: str, elsewhere: Elsewhere) -> None:
        self._ledger: Final = ledger
        self._issuer: Final = issuer
        self._elsewhere: Final = elsewhere

    async def caller(self, caller: Caller) -> Caller | None:
        """The caller with what is still granted; None for whoever would get no such token any more.

        So it is for one whose token was revoked, where it is told which that was.
        """
        if not self._issuer or unquote(caller.name.partition("/")[0]) != self._issuer:
            return await self._elsewhere.caller(caller)
        if caller.token and await self._ledger.memo(ENDED, caller.token) is not None:
            return None
        client = await clients.find(self._ledger, caller.client)
        if client is None or client.disabled:
            return None
        same = (client.ods_code, client.user, client.patient) == (
            *(caller.organisation, caller.user, caller.patient),
        )
        if not same or not {role.value for role in caller.roles} <= {*client.roles}:
            return None
        try:
            left = scopes.common(caller.grants, scopes.parse(client.scopes))
        except ValueError:
            return None
        return replace(caller, grants=left) if left else None
