"""What an operation gets: a session, its parameters, the time. It never sees HTTP or the store.

An operation is a module with `async def run(call: Call) -> Resource | bytes`, beside its
OperationDefinition in a JSON file of the same name. Bytes are a resource in JSON that is put
together already, such as a Bundle of stored resources (`fhir_server.fhir.bundles`).

An operation that answers page by page says `PAGED = True` in its module: it makes the link to
the next page with `call.link(place)`, and finds `place` again in `call.page`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir.dates import moment
from fhir_server.fhir.json import Resource
from fhir_server.operation.pages import Pages
from fhir_server.operation.parameters import Inputs
from fhir_server.search.limits import Limits


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation. `resource_type` and `id` are '' on the levels above."""

    session: Session | SessionUnit
    """A unit where the operation is part of a commit already; its own commit is then that one."""
    base: str
    now: int
    """Microseconds since the epoch."""
    resource_type: str
    id: str
    parameters: Inputs
    code: str
    pages: Pages
    limits: Limits
    page: Any = None
    """On a further page, what `link` was given; there are no parameters then."""

    @property
    def time(self) -> datetime:
        """Now, in UTC."""
        return moment(self.now)

    @property
    def address(self) -> str:
        """Where it is invoked, relative to the base."""
        parts = (self.resource_type, self.id, f"${self.code}")
        return "/".join(part for part in parts if part)

    def link(self, place: Any) -> str:
        """The URL of a further page, which begins at `place`: JSON, read by nobody else."""
        return self.pages.link(self.address, place)


Run = Callable[[Call], Awaitable[Resource | bytes]]
