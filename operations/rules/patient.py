"""Who somebody is, and that they have died, has its effects whoever writes the Patient and however.

A death closes the involvement with care, as one that a stay ends with does; one that was told in
error is taken back. Another date of birth or NHS number, and an NHS number that somebody else has,
is for the keyworker to look at: docs/decisions/0039-who-somebody-is.md.
"""

from collections.abc import Iterator
from typing import Final

from fhir_server.access.labels import is_test_data
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from fhir_server.operation.rules import Change
from operations._doubt import ask_who
from operations._event import Event
from operations._hindsight import in_hindsight
from operations._identity import numbers, plain_number, reliable
from operations._known_stays import died_at
from operations._person import CLOCKS_DIFFER, Person

ON: Final = ("Patient",)
_CHANGED: Final = "See whether the young person is still who they were"
_SHARED: Final = "Find out whether two records are of one young person"


async def guard(change: Change) -> None:
    """Raise for a death that is to come.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    told = (change.after or {}).get("deceasedDateTime")
    known = (change.before or {}).get("deceasedDateTime")
    if told and told != known and interval(told).low > change.now + CLOCKS_DIFFER:
        text = f"'{told}' is to come: a death is recorded once it has happened"
        raise FhirError.at(Kind.BUSINESS_RULE, "Patient.deceased", text)


async def follow(change: Change) -> list[str]:
    if change.after is None:
        return []
    said = await _shared(change, change.after)
    if change.before is None:
        return said
    person = Person(change.records, change.after, change.now)
    if _death(change.before) != _death(change.after):
        said += await _died_or_not(change, person, change.before)
    return said + await _changed(change, person, change.before)


def _death(patient: Resource) -> tuple[object, object]:
    return patient.get("deceasedDateTime"), patient.get("deceasedBoolean") or None


async def _died_or_not(change: Change, person: Person, before: Resource) -> list[str]:
    """What stays have brought by what is told of a death now; one that they tell of stands."""
    was_dead = await died_at(Person(change.records, before, change.now)) is not None
    event = Event(
        change.records,
        person,
        stay={},
        at=change.now,
        author={"reference": person.reference},
        consented=await person.consented("register"),
        pathway=change.pathway,
    )
    return await in_hindsight(event, was_dead=was_dead)


async def _changed(change: Change, person: Person, before: Resource) -> list[str]:
    """Ages decide about consent, numbers about whose messages these are."""
    elements = [*_decisive(before, person.patient)]
    if not elements or await person.episode() is None:
        return []
    told = (
        f"Changed in the record: {', '.join(elements)}. Consents, ratings and stays of before "
        "are kept: look whether they are still right, and this young person's"
    )
    key = [str(person.patient.get("birthDate", "")), *_numbers(person.patient)]
    asked = await ask_who(change.records, person, person.reference, _CHANGED, told, *key)
    return [asked] if asked else []


def _decisive(before: Resource, after: Resource) -> Iterator[str]:
    if before.get("birthDate") != after.get("birthDate"):
        yield "the date of birth"
    if _numbers(before) != _numbers(after):
        yield "the NHS number"


def _numbers(patient: Resource) -> list[str]:
    return sorted(map(plain_number, numbers(patient)))


async def _shared(change: Change, patient: Resource) -> list[str]:
    """Somebody else has the number already: who it is now hears of it, and nobody else.

    Whoever writes this record learns nothing by it of whom the server knows.
    """
    known = [] if change.before is None else _in_use(change.before)
    new = [one for one in _in_use(patient) if one not in known]
    told = (
        "Another record has come to have this young person's NHS number, which is the focus here. "
        "Ask who manages it whether both are one person: then the two are joined by hand"
    )
    async for other in change.records.each_identified("Patient", new):
        same_kind = is_test_data(other) == is_test_data(patient)
        if other["id"] != patient["id"] and same_kind and other.get("active") is not False:
            person = Person(change.records, other, change.now)
            if await _is_served(person):
                await ask_who(change.records, person, reference_to(patient), _SHARED, told)
    return []


async def _is_served(person: Person) -> bool:
    """Whether there is somebody to ask: of others the next message asks, if it is in doubt."""
    return await person.episode() is not None or bool(await person.active_ratings())


def _in_use(patient: Resource) -> list[Resource]:
    """NHS numbers by which the record is found, each as it may be written."""
    if patient.get("active") is False:
        return []
    return [
        {"system": one["system"], "value": one["value"]}
        for one in reliable(patient)
        if one["system"] == canonicals.NHS_NUMBER
    ]
