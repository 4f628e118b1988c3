"""Servers with a few young people on them, and one for a caller who may see one of them."""

import httpx
import pytest

from fhir_server.search.ast import Everything, Node, Nothing, ReferenceTo
from fhir_server.settings import Settings
from tests.fhir_operations.record import PATIENT, load


class OnePatient:
    """Who may see one young person's record, and of the service all but who works in it."""

    def __init__(self, patient: str = PATIENT, *, writes: bool = True) -> None:
        self._patient = patient
        self._writes = writes

    def readable(self, resource_type: str) -> Node:
        if resource_type in ("Organization", "Location", "Basic"):
            return Everything()
        return ReferenceTo("{Patient}", (self._patient,))

    def writable(self, resource_type: str) -> Node:
        return self.readable(resource_type) if self._writes else Nothing()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """FHIR's own operations alone: the caseload stays as it was generated, as no rule is there."""
    bounds = {"max_entries": 1000, "max_body": 4 * 1024 * 1024}
    return settings.model_copy(update={"operations": ("fhir_operations",), **bounds})


@pytest.fixture
async def caseload(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a server with a few young people."""
    await load(client)
    return client
