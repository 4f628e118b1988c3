"""What is left of a caller by now, as its client is registered: for work that outlives a token.

A job goes on after the token that began it has expired, and ends where it was revoked. Of the
built-in issuer it is known what the client may have by now; other issuers are not asked, as there
is no token any more to ask them about.
"""

from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from fhir_server.access.caller import Caller
from fhir_server.access.issued import ENDED
from fhir_server.access.ledger import Ledger
from fhir_server.authorisation import clients, scopes


class Registered:
    """
    Args:
        issuer: the name of the built-in one in its tokens; '' where there is none.
    """

    def __init__(self, ledger: Ledger, issuer: str) -> None:
        self._ledger: Final = ledger
        self._issuer: Final = issuer

    async def caller(self, caller: Caller) -> Caller | None:
        """The caller with what is still granted; None for whoever would get no such token any more.

        So it is for one whose token was revoked, where it is told which that was.
        """
        if not self._issuer or unquote(caller.name.partition("/")[0]) != self._issuer:
            return caller
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
