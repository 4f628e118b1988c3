"""What sees to resources of one type, by whatever way they are written."""

from typing import Protocol

from fhir_server.access.caller import Caller
from fhir_server.storage.interface import Draft, Unit


class Keeper(Protocol):
    """Sees to resources of one type in the commits that callers write them in."""

    @property
    def type(self) -> str: ...

    async def taken(self, unit: Unit, caller: Caller, draft: Draft) -> Draft:
        """What is written in the place of what the caller gives; with it lands what it keeps.

        Raises:
            FhirError: for what is refused.
        """

    async def gone(self, unit: Unit, caller: Caller, resource_id: str) -> None:
        """What was kept of a resource that is being deleted goes too."""
