"""Who may write what: the write column of the decision table.

Rights are needed on both sides of a change, what is there and what comes, so that nothing is moved
into or out of a record, relabelled or unmarked by somebody who has no right to the result.
Whoever is not named here writes nothing.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_server.access import membership
from fhir_server.access.caller import Caller, Role
from fhir_server.access.consent_writing import require_consent
from fhir_server.access.decision import Area, Decision, Right
from fhir_server.access.facts.reading import contribution
from fhir_server.access.labels import has_own_mark, is_test_data, labels_of
from fhir_server.access.membership import PATIENT, Standing
from fhir_server.access.offices import require_office
from fhir_server.access.own_names import OwnNames, own_names
from fhir_server.access.person_writing import Correcting, require_person
from fhir_server.access.policy import refusal
from fhir_server.access.sight import shows_all
from fhir_server.fhir import json
from fhir_server.search.extract import has_canonical
from fhir_server.storage.interface import Reader

Side = Mapping[str, Any] | None
About = Callable[[str], Awaitable[Decision]]


@dataclass(frozen=True, slots=True)
class Writing:
    """Who writes, when, and what is decided about a patient."""

    caller: Caller
    now: int
    about: About
    fresh: Collection[str] = field(default=())
    """Patients that this commit has made."""


async def require_write(asked: Writing, reader: Reader, old: Side, new: Side) -> None:
    """Raise unless the caller may make the one of the other.

    Raises:
        FhirError: FORBIDDEN.
    """
    name = _type_of(old, new)
    standing = membership.standing(name)
    if standing is Standing.AUDIT:
        _require_addition(asked.caller, old)
    elif Role.LOAD_TEST in asked.caller.roles:
        _require_test_data(name, old, new)
    elif standing is Standing.SHARED:
        if Role.ADMINISTRATOR not in asked.caller.roles:
            raise refusal(f"{name} resources are kept by administrators")
        await require_office(asked.caller, reader, old, new)
    elif standing is Standing.RECORD:
        await _require_record(asked, reader, old, new)
    elif standing is Standing.OWN:
        sides = [side for side in (old, new) if side is not None]
        if not all(has_own_mark(asked.caller.name, side) for side in sides):
            raise refusal(f"A {name} is changed by whoever made it")
    else:
        raise refusal(f"{name} resources are not written through the API")


def _require_addition(caller: Caller, old: Side) -> None:
    """AuditEvents are taken from every caller with the scope, and stay; test data is no audit."""
    if old is not None or Role.LOAD_TEST in caller.roles:
        raise refusal("The audit is added to alone, and not by test systems")


async def require_outcome(caller: Caller, reader: Reader, about: Collection[str]) -> None:
    """Raise, at the end of a commit, where test data came to be about anybody but test patients.

    Raises:
        FhirError: FORBIDDEN, whether such a patient is there or not.
    """
    if Role.LOAD_TEST not in caller.roles:
        return
    for patient_id in about:
        patient = await _patient(reader, patient_id)
        if patient is None or not is_test_data(patient):
            raise refusal("Test data is about patients who are test data themselves")


def _require_test_data(name: str, old: Side, new: Side) -> None:
    if name != "Basic" and (has_canonical(name) or name == "Subscription"):
        raise refusal(f"{name} resources are about the whole server, and no test data")
    if not all(is_test_data(side) for side in (old, new) if side is not None):
        raise refusal("A load test writes what carries the tag HTEST, before and after")
    told = None if new is None or name == PATIENT else contribution(dict(new))
    if told is not None and any(subject.startswith("nhs:") for subject in told.subjects):
        raise refusal("Test data is about patients whom it refers to, and none by NHS number")


async def _require_record(asked: Writing, reader: Reader, old: Side, new: Side) -> None:
    if old is not None and old["resourceType"] == "Provenance":
        raise refusal("Provenance is written once, and stays")
    sides = [side for side in (old, new) if side is not None]
    whose = [membership.patients_of(side) for side in sides]
    if not all(whose):
        raise refusal("Whose record this is cannot be told: it names no Patient of this server")
    everybody = frozenset().union(*whose)
    await _require_same_mark(reader, old, new, everybody)
    if _is_enrolment(asked, old, new, everybody):
        return
    own = await own_names(reader, asked.caller, *_naming(sides))
    for patient_id in sorted(everybody):
        await _require_of(asked, reader, own, patient_id, old, new)


def _naming(sides: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """The elements by which something of the record may be the caller's own."""
    for side in sides:
        yield from (side.get("owner"), side.get("serviceProvider"))
        yield side.get("managingOrganization") if side["resourceType"] == PATIENT else None
        yield from side.get("performer", ()) if side["resourceType"] == "Consent" else ()


async def _require_of(
    asked: Writing, reader: Reader, own: OwnNames, patient_id: str, old: Side, new: Side
) -> None:
    """Raise unless the change may be made in that patient's record."""
    name, decision = _type_of(old, new), await asked.about(patient_id)
    if name == "Consent":
        await require_consent(asked.caller, asked.now, reader, decision, own, old, new)
        return
    if _is_diagnosis_for_keeper(decision, old, new):
        return
    if name == "Encounter" and Right.EVENTS in decision.rights and _is_own_event(own, old, new):
        return
    sides = [side for side in (old, new) if side is not None]
    if membership.area(name) is Area.PERSON:
        await require_person(Correcting(decision, own, asked.about), old, new)
    if not all(shows_all(decision, side) for side in sides):
        raise refusal()
    if membership.area(name) in (Area.PERSON, *decision.writes):
        return
    if name == "Task" and Right.OWN_ACTIVITIES in decision.rights and _is_own_task(own, old, new):
        return
    raise refusal("What the caller may read here, it may not write")


def _is_enrolment(asked: Writing, old: Side, new: Side, everybody: Collection[str]) -> bool:
    """An administrator brings a child onto the register: the Patient, and what comes with it.

    In one commit, and never with a consent: that is for those who may give or record it.
    """
    if Role.ADMINISTRATOR not in asked.caller.roles or old is not None or new is None:
        return False
    if new["resourceType"] == PATIENT:
        return True
    return new["resourceType"] != "Consent" and set(everybody) <= set(asked.fresh)


def _is_own_event(own: OwnNames, old: Side, new: Side) -> bool:
    """A unit always tells of its own stays; it deletes none, and gives none to another child."""
    if new is None or not own.organisation or not own.is_organisation(new.get("serviceProvider")):
        return False
    if old is None:
        return not labels_of(new)
    same = membership.patients_of(old) == membership.patients_of(new)
    return same and _same_labels(old, new) and own.is_organisation(old.get("serviceProvider"))


def _is_diagnosis_for_keeper(decision: Decision, old: Side, new: Side) -> bool:
    """Who keeps the record adds a Condition, without which nobody is referred; it reads none."""
    if old is not None or new is None or Right.IDENTITY not in decision.rights:
        return False
    return bool(new["resourceType"] == "Condition") and not labels_of(new)


def _is_own_task(own: OwnNames, old: Side, new: Side) -> bool:
    """What they do they write; whose it is, and who may see it, stays."""
    if old is None or new is None:
        return False
    owned = own.is_one(old.get("owner")) and own.is_one(new.get("owner"))
    return owned and old.get("for") == new.get("for") and _same_labels(old, new)


def _same_labels(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return labels_of(old) == labels_of(new)


async def _require_same_mark(
    reader: Reader, old: Side, new: Side, everybody: Collection[str]
) -> None:
    """What is marked as test data is shown to test systems: nobody marks what is real."""
    if new is None or not is_test_data(new):
        if old is not None and new is not None and is_test_data(old):
            raise refusal("The tag HTEST stays with what carries it")
        return
    if old is not None and is_test_data(old):
        return
    if old is None and new["resourceType"] == PATIENT:
        return
    patients = [await _patient(reader, one) for one in everybody]
    if old is not None or not all(one is not None and is_test_data(one) for one in patients):
        raise refusal("The tag HTEST marks what is about test patients alone")


async def _patient(reader: Reader, patient_id: str) -> Mapping[str, Any] | None:
    found = await reader.read(PATIENT, patient_id)
    return None if found is None or found.deleted else json.decode_resource(found.body)


def _type_of(old: Side, new: Side) -> str:
    side = new if new is not None else old
    assert side is not None  # noqa: S101 - a change has a side
    return str(side["resourceType"])
