"""What an operation gets: a session, its parameters, the time. It never sees HTTP or the store.

An operation is a module with `async def run(call: Call) -> Resource`, beside its
OperationDefinition in a JSON file of the same name.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from fhir_server.access.session import Session
from fhir_server.fhir.dates import moment
from fhir_server.fhir.json import Resource
from fhir_server.operation.parameters import Inputs


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation. `resource_type` and `id` are '' on the levels above."""

    session: Session
    base: str
    now: int
    """Microseconds since the epoch."""
    resource_type: str
    id: str
    parameters: Inputs

    @property
    def time(self) -> datetime:
        """Now, in UTC."""
        return moment(self.now)


Run = Callable[[Call], Awaitable[Resource]]
