"""What stands before the authorisation server: how often one address may ask, and be refused.

The bounds are those of the FHIR interface, and what is used of them there is used here. Of a
stranger who is refused there is a row in the audit; of one who is told to wait there is none, so
strangers write no faster than they may fail. Clients that are known have theirs in the commit of
what they do.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from fhir_server.access.audit.record import of_stranger
from fhir_server.access.audit.trail import Trail
from fhir_server.authorisation.refusals import Refusal
from fhir_server.http.headers import read as read_headers
from fhir_server.http.proxies import Proxies
from fhir_server.http.rates import Rates


class Gate:
    """Of one server process.

    Args:
        addresses: whose word on a client's address is taken.
        trail: takes the audit's rows; None where there is no audit.
    """

    def __init__(self, rates: Rates, addresses: Proxies, trail: Trail | None = None) -> None:
        self._rates = rates
        self._addresses = addresses
        self._trail = trail

    def admit(self, request: Request) -> None:
        """Count a request.

        Raises:
            FhirError: THROTTLED.
        """
        self._rates.admit("", self.address(request))

    async def authenticated(
        self, request: Request, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Do the work of a request that only a client may make.

        Raises:
            FhirError: THROTTLED before the work where too many of the address have failed, and in
                place of a refusal; UNAVAILABLE while a refusal could not be audited.
            Refusal: as the work does.
        """
        address = self.address(request)
        self._rates.admit("", address)
        self._rates.require_patience(address)
        if self._trail is not None:
            self._trail.require_open()
        try:
            return await work()
        except Refusal as refusal:
            if not refusal.recorded:
                self._rates.failed(address)
                await self._leave(request, address, refusal)
            raise

    async def _leave(self, request: Request, address: str, refusal: Refusal) -> None:
        """A row of the audit: nobody knows who it was."""
        if self._trail is None:
            return
        path = request.url.path
        told = f"{refusal.status} {refusal.error}: {refusal.text}"
        asked = f"{request.method} {path}"
        self._trail.put(of_stranger(path.rpartition("/")[2], asked, address, told))
        await self._trail.settle()

    def address(self, request: Request) -> str:
        """Where the client asks from, as far as trusted proxies tell it."""
        peer = request.client.host if request.client else ""
        return self._addresses.client(peer, read_headers(request.scope["headers"]).values)
