"""Giving a rating: what `$set-rating` and `$admission-risk` do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.canonicals import AMBER, BLUE, GREEN, RED
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Lookup, Records, reference_to
from operations._ageing import too_old
from operations._deciding import Decider
from operations._holding import RANK, Hold, Overridden, hold_of
from operations._person import (
    COLOURS,
    Person,
    begun,
    colour_of,
    extension,
    local_day,
    local_time,
    with_extension,
)
from operations._rating_flag import belongs_to, rated
from operations._whose import named

_MOST_REASON: Final = 2000
_PLACE: Final = "Parameters.parameter.where(name='{}')"
_LOWER: Final = frozenset({(RED, AMBER), (RED, GREEN), (AMBER, GREEN), (RED, None), (AMBER, None)})
"""Ratings at which an admission is likely, and what is lower; None is the end of the rating."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What somebody decides about a rating."""

    colour: str
    reason: str
    evidence: Sequence[str]
    """References to what it rests on."""
    decider: Decider
    override: bool
    avoided: bool = False
    """Whether they declare that an admission was avoided."""


async def give(call: Call, person: Person, appraisal: Appraisal) -> Resource:
    """Make it the active rating; the Flag.

    Raises:
        FhirError: BUSINESS_RULE, with an issue for each thing that is missing; FORBIDDEN for what
            a signatory of the register does not tell.
    """
    _require_untold_of_stays(appraisal)

    async def work(unit: SessionUnit) -> Resource:
        records = as_service(call, unit)
        now = Person(records, person.patient, call.now)
        hold = await hold_of(now, call.pathway.red_hold_days)
        missing = await _missing(now, appraisal, call.pathway)
        by_register = appraisal.decider.by_register
        if by_register:
            missing += await _above(now, appraisal.colour, call.pathway.red_hold_days)
        else:
            missing += held_up(hold, appraisal.colour, appraisal)
        if missing:
            raise FhirError.of(Kind.BUSINESS_RULE, missing)
        flag = await _given(records, now, await _flag(now, appraisal, hold))
        if not by_register:
            await require_seen(call, unit, flag)
        looked_at = by_register or appraisal.override
        await unit.settle(Overridden(frozenset({flag["id"]})) if looked_at else None)
        return await _as_seen(call, unit if by_register else records, flag)

    return await call.session.commit("set-rating", work)


def _require_untold_of_stays(appraisal: Appraisal) -> None:
    """Raise where a signatory of the register would be told whether a stay is going on.

    They see no stays: they are refused before one is looked for. Blue is given with the stay.

    Raises:
        FhirError: FORBIDDEN.
    """
    if not appraisal.decider.by_register:
        return
    if appraisal.avoided:
        text = "Those who care for the young person declare that an admission was avoided"
        raise FhirError.at(Kind.FORBIDDEN, _PLACE.format("avoided"), text)
    if appraisal.colour == BLUE:
        text = "By consent to the register alone nobody gives blue: the service does with a stay"
        raise FhirError.at(Kind.FORBIDDEN, _PLACE.format("rating"), text)


async def _as_seen(call: Call, data: SessionUnit | Records, flag: Resource) -> Resource:
    """The rating as it is by now; with the caller's own rights, what they see of it."""
    lookup = data if isinstance(data, Records) else Lookup(data, base=call.base, now=call.now)
    found = await lookup.get("Flag", flag["id"])
    if found is None:
        raise FhirError(Kind.FORBIDDEN, "What the caller may not read it may not write")
    return found


def as_service(call: Call, unit: SessionUnit) -> Records:
    """The records of the caller's commit, with the service's own rights."""
    service = replace(call, session=unit).as_service()
    assert isinstance(service, SessionUnit)  # noqa: S101 - as of a unit
    return Records(service, base=call.base, now=call.now, checker=call.checker)


async def require_seen(call: Call, unit: SessionUnit, flag: Resource) -> None:
    """Raise unless the caller sees the whole rating that the service writes for them.

    Raises:
        FhirError: FORBIDDEN.
    """
    seen = await Lookup(unit, base=call.base, now=call.now).get("Flag", flag["id"])
    if seen is None or seen.get("author") != flag["author"]:
        raise FhirError(Kind.FORBIDDEN, "What the caller may not read in full it may not write")


def reason_of(call: Call, name: str) -> str:
    """Why, in words.

    Raises:
        FhirError: INVALID for one without words, or very long.
    """
    reason = str(call.parameters.one(name) or "").strip()
    if not said(reason) or len(reason) > _MOST_REASON:
        text = f"'{name}' says why, in 1 to {_MOST_REASON} characters"
        raise FhirError.at(Kind.INVALID, _PLACE.format(name), text)
    return reason


def colour_in(call: Call) -> str:
    """Raises: FhirError INVALID for what is no colour."""
    colour = str(call.parameters.one("rating"))
    if colour not in COLOURS:
        text = f"'{colour}' is no rating; {', '.join(COLOURS)} are allowed"
        raise FhirError.at(Kind.INVALID, _PLACE.format("rating"), text)
    return colour


async def evidence_in(call: Call, person: Person) -> list[str]:
    """What the call names as evidence: resources of this young person that the caller sees.

    Raises:
        FhirError: BUSINESS_RULE, with an issue for each that is none.
    """
    lookup = Lookup(call.session, base=call.base, now=call.now)
    found, issues = [], []
    for index, reference in enumerate(call.parameters.all("evidence")):
        local = parse_local(reference.get("reference", ""), call.base)
        resource = None if local is None else await lookup.get(local.type, local.id)
        if resource is None or person.reference not in {reference_to(resource), *named(resource)}:
            told = reference.get("reference", "")
            text = f"'{told}' is nothing that is known of {person.reference}"
            issues.append(Issue(text, f"{_PLACE.format('evidence')}[{index}]"))
        else:
            found.append(reference_to(resource))
    if issues:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)
    return found


async def _missing(person: Person, appraisal: Appraisal, pathway: Pathway) -> list[Issue]:
    """What a rating needs that is not there."""
    found = []
    if person.has_died:
        found.append(Issue("The young person has died; there is nothing to rate", "Patient"))
    if told := too_old(person, pathway):
        found.append(Issue(told, "Patient.birthDate"))
    if not await person.consented("register"):
        text = "No active Consent to be on the register is recorded; ask for it and record it first"
        found.append(Issue(text, "Consent"))
    if appraisal.colour == BLUE and not await person.open_stays():
        text = "Blue means in hospital, and no stay is going on; record the Encounter"
        found.append(Issue(text, _PLACE.format("rating")))
    if appraisal.avoided:
        found += await undeclared(person, appraisal.colour, appraisal.decider)
    return found


async def undeclared(person: Person, colour: str | None, decider: Decider) -> list[Issue]:
    """What stands against declaring that an admission was avoided.

    `colour` is that of the rating with which it is declared, None where the rating ends.
    """
    place, found = _PLACE.format("avoided"), []
    if not decider.may_override:
        text = "Who declares that an admission was avoided says in which professional 'role'"
        found.append(Issue(text, _PLACE.format("role")))
    if await person.open_stays():
        found.append(Issue("The young person is in hospital: no admission was avoided", place))
    before = next((colour_of(one) for one in await person.active_ratings()), None)
    if (before, colour) not in _LOWER:
        text = f"An admission was likely at red or amber, and the rating before is {before}"
        found.append(Issue(f"{text}: 'avoided' goes with one that is lower", place))
    return found


def held_up(hold: Hold | None, colour: str | None, asked: "Appraisal | Removal") -> Iterator[Issue]:
    """What stands against a rating that is lower than what holds."""
    if hold is None or not hold.forbids(colour):
        return
    if not asked.override:
        text = (
            f"{hold.why}. To set it lower on purpose, send 'override' true with a 'role' of "
            "those who care for the young person, and the reason"
        )
        yield Issue(text, _PLACE.format("override"))
    elif not asked.decider.may_override:
        text = f"{hold.why}. Who overrides that says in which professional 'role'"
        yield Issue(text, _PLACE.format("role"))


async def _above(person: Person, colour: str, days: int) -> list[Issue]:
    """What stands against the rating of a signatory of the register: the rating that they see.

    They see no stays, and a refusal that hung on one would tell of it. So for them blue stands as
    long as it is the rating, and red for as many days as it does after a discharge, whatever it
    came of.
    """
    active = next(iter(await person.active_ratings()), None)
    before = colour_of(active) if active else None
    if active is None or before is None or RANK[colour] >= RANK[before]:
        return []
    today, floor = local_day(person.now), extension(active, canonicals.MINIMUM_UNTIL_EXTENSION)
    given = begun(active)
    is_new = given > 0 and today < local_day(given) + timedelta(days=days)
    held = today.isoformat() < str((floor or {}).get("valueDate", ""))
    if before != BLUE and not (before == RED and (is_new or held)):
        return []
    text = (
        f"By consent to the register alone nobody sets blue lower, nor red in the first {days} "
        "days; those who care for the young person set it lower"
    )
    return [Issue(text, _PLACE.format("rating"))]


async def _given(records: Records, person: Person, flag: Resource) -> Resource:
    """A new rating; of blue, which is one for a whole stay, what is told more of the one there."""
    if colour_of(flag) == BLUE:
        stays = await person.open_stays()
        for known in await person.active_ratings():
            of_stay = any(belongs_to(known, stay) for stay in stays)
            if colour_of(known) == BLUE and of_stay:
                return await records.save(_with_more(known, flag))
    return await records.create(flag)


def _with_more(known: Resource, flag: Resource) -> Resource:
    """What is told now, and the evidence of before with it."""
    said = {item["url"] for item in flag["extension"]} - {canonicals.FLAG_DETAIL_EXTENSION}
    kept = [one for one in known.get("extension", ()) if one.get("url") not in said]
    more = [one for one in flag["extension"] if one not in kept]
    return {**known, "author": flag["author"], "extension": [*kept, *more]}


async def _flag(person: Person, appraisal: Appraisal, hold: Hold | None) -> Resource:
    decider, at = appraisal.decider, local_time(person.now)
    is_lower = appraisal.override and hold is not None and hold.forbids(appraisal.colour)
    note: Resource = {"text": appraisal.reason, "time": at}
    if is_lower and hold is not None:
        note["text"] = f"{appraisal.reason} (set lower on purpose, by {decider.role}: {hold.why})"
    if decider.role:
        note["authorString"] = decider.role
    flag = rated(appraisal.colour, person, at, decider.author)
    flag = with_extension(flag, {"url": canonicals.FLAG_NOTES_EXTENSION, "valueAnnotation": note})
    if appraisal.colour == RED and hold is not None and hold.until:
        until = {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": hold.until}
        flag = with_extension(flag, until)
    if appraisal.avoided:
        declared = {"url": canonicals.ADMISSION_AVOIDED_EXTENSION, "valueBoolean": True}
        flag = with_extension(flag, declared)
    if appraisal.colour == BLUE:
        stays = await person.open_stays()
        flag["encounter"] = {"reference": reference_to(stays[0])}
    details = [
        {"url": canonicals.FLAG_DETAIL_EXTENSION, "valueReference": {"reference": one}}
        for one in dict.fromkeys(appraisal.evidence)
    ]
    return {**flag, "extension": [*flag["extension"], *details]}


@dataclass(frozen=True, slots=True)
class Removal:
    """Somebody takes a young person off the register."""

    reason: str
    """A code of `rating-end-reason`."""
    text: str
    decider: Decider
    override: bool
    avoided: bool = False
    """Whether they declare that an admission was avoided."""
