"""What the service's rules are to a commit: told of what was written, they write what follows.

`fhir_server.operation.rules` finds and runs them. This is what a session knows of it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from fhir_server.access.labels import is_test_data
from fhir_server.access.membership import PATIENT, looked_at, patients_of

if TYPE_CHECKING:
    from fhir_server.access.session import SessionUnit
    from fhir_server.storage.interface import Draft, Reader, StoredVersion


@dataclass(frozen=True, slots=True)
class Written:
    """A resource that a commit wrote, once or several times: how it was before."""

    type: str
    id: str
    before: "StoredVersion | None"
    """None where there was none; perhaps a deletion."""
    after: "StoredVersion | None" = None
    """What was written last; None where nothing was, and rules are to look all the same."""


async def is_made_for_tests(reader: "Reader", draft: "Draft") -> bool:
    """Whether rules make something new about test data alone, which is then test data too.

    Whoever set it off: a load test has to find it again, and finds nothing else.
    """
    patients = patients_of(draft.resource)
    for one in patients:
        found = await reader.read(PATIENT, one)
        if found is None or found.deleted or not is_test_data(looked_at(PATIENT, found.body)):
            return False
    return bool(patients) and await reader.read(draft.type, draft.id) is None


class Rules(Protocol):
    """The service's rules."""

    @property
    def types(self) -> Collection[str]:
        """The resource types that rules look at; what else is written costs nothing."""
        ...

    async def look(self, unit: "SessionUnit", told: object) -> list[str]:
        """Look at what was written and write what follows; what was done, in words.

        Args:
            unit: from which `taken` gives what was written.
            told: what the writer knows beside it, for rules that know what it is.

        Raises:
            FhirError: where a rule refuses.
        """
        ...

    async def come(self, unit: "SessionUnit", patient_id: str, at: int) -> list[str]:
        """Write what time alone has brought about for a patient; what was done, in words.

        Args:
            at: the moment that rules asked for, in microseconds since the epoch.
        """
        ...

    def as_it_is(self) -> "Rules":
        """Those that follow up nothing, and only note whom to look at when there is time."""
        ...


class _NoRules:
    types: Final = frozenset[str]()

    async def look(self, unit: "SessionUnit", told: object) -> list[str]:  # noqa: ARG002
        return []

    async def come(self, unit: "SessionUnit", patient_id: str, at: int) -> list[str]:  # noqa: ARG002
        return []

    def as_it_is(self) -> "Rules":
        return self


NO_RULES: Final[Rules] = _NoRules()
