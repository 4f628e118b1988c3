"""Patient/$admission-risk: the suggested rating, and the rules that fired. It writes nothing."""

from typing import Any

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, reference_to
from operations._person import Person, colour_of, local_day
from operations._rules import Fired, fired_rules, suggested


async def run(call: Call) -> Resource:
    person = await person_of(call)
    fired = await fired_rules(person, call.pathway)
    active = await person.active_ratings()
    registered = active[0] if active else None
    rating = suggested(fired, registered, local_day(call.now).isoformat())
    found: list[dict[str, Any]] = []
    if rating is not None:
        found.append({"name": "rating", "valueCode": rating})
    if registered is not None:
        found.append({"name": "registered", "part": _registered(registered)})
    found += [{"name": "rule", "part": _rule(rule)} for rule in fired]
    found += [
        {"name": "missing", "valueString": text} for text in await _missing(person, registered)
    ]
    return {"resourceType": "Parameters", "parameter": found}


async def person_of(call: Call) -> Person:
    """The young person that the call is about.

    Raises:
        FhirError: NOT_FOUND.
    """
    lookup = Lookup(call.session, base=call.base, now=call.now)
    patient = await lookup.get("Patient", call.id)
    if patient is None:
        raise FhirError(Kind.NOT_FOUND, f"Patient/{call.id} is not known")
    return Person(lookup, patient, call.now)


def _registered(flag: Resource) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [
        {"name": "flag", "valueReference": {"reference": reference_to(flag)}}
    ]
    if colour := colour_of(flag):
        parts.insert(0, {"name": "rating", "valueCode": colour})
    return parts


def _rule(rule: Fired) -> list[dict[str, Any]]:
    return [
        {"name": "code", "valueCoding": {"system": canonicals.RATING_RULE, "code": rule.code}},
        {"name": "rating", "valueCode": rule.colour},
        {"name": "text", "valueString": rule.text},
        *(
            {"name": "evidence", "valueReference": {"reference": reference}}
            for reference in rule.evidence
        ),
    ]


async def _missing(person: Person, registered: Resource | None) -> list[str]:
    """What would have to be known to be sure."""
    missing = []
    if await person.answers() is None:
        missing.append("Nobody has answered the risk questions")
    if not await person.consented("register"):
        missing.append("No consent to be on the register is recorded")
    elif registered is None:
        missing.append("There is no rating on the register")
    return missing
