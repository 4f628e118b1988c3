"""Which changes a subscription is told of, and what of them, by what its caller may read now.

Topics and criteria are held against what the caller sees, never against what is masked or hidden:
whoever chooses criteria learns nothing by them that a read would not tell.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from fhir_server.access.guarded import SEEN_IN_PART
from fhir_server.access.membership import PATIENT, patients_of
from fhir_server.access.session import Data, Session
from fhir_server.errors import FhirError
from fhir_server.events.asked import Asked
from fhir_server.events.feed import Change
from fhir_server.events.keeping import read_criteria
from fhir_server.events.record import Event
from fhir_server.events.terms import Terms
from fhir_server.events.topics import TOPICS
from fhir_server.fhir import canonicals, json
from fhir_server.search.ast import Node, Query, ReferenceTo
from fhir_server.search.match import match
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import Store, StoredVersion

_ORGANIZATION: Final = "Organization/"
_MOST: Final = 50
"""Involvements and teams of one young person that a filter looks at."""


async def visible(
    session: Data, resource_type: str, resource_id: str, version: int
) -> StoredVersion | None:
    """The version as the caller may see it now, or else the current one; None for neither."""
    found = await session.vread(resource_type, resource_id, version)
    if found is None or found.deleted:
        found = await session.read(resource_type, resource_id)
    return None if found is None or found.deleted else found


async def seen(session: Data, event: Event) -> StoredVersion | None:
    """What the event is about, as far as the caller may see it; of a deletion what went before."""
    if event.deleted:
        return await before(session, event.type, event.id, event.version)
    return await visible(session, event.type, event.id, event.version)


async def before(
    session: Data, resource_type: str, resource_id: str, version: int
) -> StoredVersion | None:
    """What was deleted by that version, as the caller may see it now."""
    found = await session.vread(resource_type, resource_id, version - 1)
    return None if found is None or found.deleted else found


class Watch:
    """What one subscription looks for."""

    def __init__(self, asked: Asked, terms: Terms, store: Store) -> None:
        self._asked = asked
        self._terms = terms
        self._store = store
        topic = TOPICS.get(asked.topic)
        self._types: Final = topic.types if topic else (asked.resource_type,)
        self._read: tuple[ParameterSet, Node | None] | None = None

    async def concerns(self, session: Session, change: Change) -> bool:
        """Whether the change is an event of the subscription that its caller may know of."""
        stored = change.stored
        if stored.type not in self._types:
            return False
        if self._asked.topic:
            return await self._is_of_topic(session, change)
        if stored.deleted:
            return False
        known = await session.parameters()
        # What matches as it is stored tells of what is covered: `:missing`, `:not` match that.
        if stored.type not in SEEN_IN_PART and not self._matches(change.resource, known):
            return False
        found = await visible(session, stored.type, stored.id, stored.version)
        return found is not None and self._matches(json.decode_own(found.body), known)

    def _matches(self, resource: Mapping[str, Any], known: ParameterSet) -> bool:
        """Criteria that mean nothing any more, as their parameter is gone, match nothing."""
        if self._read is None or self._read[0] is not known:
            self._read = (known, self._node(known))
        node = self._read[1]
        return node is not None and match(node, resource, known=known)

    def _node(self, known: ParameterSet) -> Node | None:
        try:
            return read_criteria(self._asked, self._terms, known)
        except FhirError:
            return None

    async def _is_of_topic(self, session: Session, change: Change) -> bool:
        if self._asked.topic not in await change.topics(self._store):
            return False
        stored = change.stored
        look = before if stored.deleted else visible
        found = await look(session, stored.type, stored.id, stored.version)
        if found is None:
            return False
        patients = patients_of(json.decode_own(found.body))
        for name, value in self._asked.filters:
            if not await _passes(session, name, value, patients):
                return False
        return True


async def _passes(session: Session, name: str, value: str, patients: frozenset[str]) -> bool:
    """Whether one of the patients has what a filter asks for; several values are one or another."""
    for wanted in value.split(","):
        for patient_id in patients:
            if name == "patient":
                if wanted in (patient_id, f"{PATIENT}/{patient_id}"):
                    return True
            elif await _has(session, name, wanted, patient_id):
                return True
    return False


async def _has(session: Session, name: str, wanted: str, patient_id: str) -> bool:
    references = _managing if name == "area" else _teams
    async for reference in references(session, patient_id):
        if await _is(session, reference, wanted, below=name == "area"):
            return True
    return False


async def _managing(session: Session, patient_id: str) -> AsyncIterator[Mapping[str, Any]]:
    """Who manages the young person's involvement with the service, or else their record."""
    async for episode in _about(session, "EpisodeOfCare", patient_id):
        if "managingOrganization" in episode:
            yield episode["managingOrganization"]
    patient = await session.read(PATIENT, patient_id)
    if patient is not None and not patient.deleted:
        yield json.decode_own(patient.body).get("managingOrganization", {})


async def _teams(session: Session, patient_id: str) -> AsyncIterator[Mapping[str, Any]]:
    """The teams around them, and the organisations that manage these."""
    async for episode in _about(session, "EpisodeOfCare", patient_id):
        for reference in episode.get("team", ()):
            yield reference
    async for team in _about(session, "CareTeam", patient_id):
        yield {"reference": f"CareTeam/{team['id']}"}
        for reference in team.get("managingOrganization", ()):
            yield reference


async def _about(
    session: Session, resource_type: str, patient_id: str
) -> AsyncIterator[Mapping[str, Any]]:
    where = ReferenceTo("patient", (f"{PATIENT}/{patient_id}",))
    page = await session.search(Query(resource_type, where), _MOST)
    for found in page.matches:
        yield json.decode_own(found.body)


async def _is(session: Session, reference: Mapping[str, Any], wanted: str, *, below: bool) -> bool:
    """Whether a reference is to what is wanted: by its id, or by the ODS code.

    Args:
        below: whether what is part of it is meant too, as in the register of an area.
    """
    named = reference.get("reference", "")
    if wanted == named:
        return True
    if _has_ods([reference.get("identifier", {})], wanted):
        return True
    if not named.startswith(_ORGANIZATION):
        return False
    found = await session.read("Organization", named.removeprefix(_ORGANIZATION))
    if found is None or found.deleted:
        return False
    organisation = json.decode_own(found.body)
    if _has_ods(organisation.get("identifier", ()), wanted):
        return True
    above = organisation.get("partOf", {})
    return below and await _is(session, above, wanted, below=False)


def _has_ods(identifiers: Any, wanted: str) -> bool:
    return any(
        one.get("system") == canonicals.ODS_ORGANIZATION
        and str(one.get("value", "")).upper() == wanted.upper()
        for one in identifiers
    )
