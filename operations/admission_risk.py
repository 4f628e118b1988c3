"""Patient/$admission-risk: the suggested rating, and the rules that fired.

It writes nothing, unless somebody applies the suggestion and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, Once, reference_to
from operations._appraising import Appraisal, give, reason_of
from operations._deciding import RATES, decider, sees_colour_alone
from operations._person import Person, colour_of, local_day, since
from operations._rules import Fired, fired_rules, suggested, unanswered

READS_BY_GET: Final = True
SCOPES = ("Patient.rs",)
"""Who applies the suggestion needs the scope for the Flag besides, as for any write."""
AS_SERVICE: Final = RATES


@dataclass(frozen=True, slots=True)
class _Risk:
    """What the records suggest now."""

    rating: str | None
    registered: Resource | None
    fired: Sequence[Fired]


async def run(call: Call) -> Resource:
    person = _asking_once(call, await person_of(call))
    risk = await _risk(call, person)
    applied = None
    if call.parameters.one("apply"):
        applied = await _apply(call, person, risk)
        person = _asking_once(call, person)  # of what there is now
        risk = await _risk(call, person)
    return {"resourceType": "Parameters", "parameter": await _told(call, person, risk, applied)}


def _asking_once(call: Call, person: Person) -> Person:
    """Several rules look at the same stays and answers."""
    once = Once(call.session, base=call.base, now=call.now)
    return Person(once, person.patient, call.now)


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


async def _risk(call: Call, person: Person) -> _Risk:
    fired = await fired_rules(person, call.pathway)
    active = await person.active_ratings()
    registered = active[0] if active else None
    today = local_day(call.now).isoformat()
    return _Risk(suggested(fired, registered, today), registered, fired)


async def _apply(call: Call, person: Person, risk: _Risk) -> Resource:
    """Make the suggestion the rating.

    Raises:
        FhirError: METHOD_NOT_ALLOWED with GET; BUSINESS_RULE where there is none.
    """
    if call.only_reads:
        text = "'apply' changes what is stored; POST is allowed, GET is not"
        raise FhirError(Kind.METHOD_NOT_ALLOWED, text, allowed_methods=("POST",))
    reason = reason_of(call, "reason")
    if risk.rating is None:
        raise FhirError(Kind.BUSINESS_RULE, "Nothing is known that suggests a rating")
    evidence = [one for rule in risk.fired for one in rule.evidence]
    decides = await decider(call, person, rates=True)
    return await give(call, person, Appraisal(risk.rating, reason, evidence, decides, False))


async def _told(
    call: Call, person: Person, risk: _Risk, applied: Resource | None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if risk.rating is not None:
        found.append({"name": "rating", "valueCode": risk.rating})
    if risk.registered is not None:
        found.append({"name": "registered", "part": _registered(risk.registered)})
    found += [{"name": "rule", "part": _rule(rule)} for rule in risk.fired]
    missing = await _missing(call, person, risk.registered)
    found += [{"name": "missing", "valueString": text} for text in missing]
    if applied is not None:
        reference = {"reference": reference_to(applied)}
        found.append({"name": "applied", "valueReference": reference})
    return found


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
        *([{"name": "rating", "valueCode": rule.colour}] if rule.colour else []),
        {"name": "text", "valueString": rule.text},
        *(
            {"name": "evidence", "valueReference": {"reference": reference}}
            for reference in rule.evidence
        ),
    ]


async def _missing(call: Call, person: Person, registered: Resource | None) -> list[str]:
    """What would have to be known to be sure."""
    if await sees_colour_alone(call, person):
        return ["The caller sees the colour alone: answers, stays and plans are not looked at"]
    missing = [*await _missing_answers(call, person)]
    if person.age_at(call.now) is None:
        missing.append("The date of birth is not known to the day")
    if not await person.consented("register"):
        missing.append("No consent to be on the register is recorded")
    elif registered is None:
        missing.append("There is no rating on the register")
    return missing


async def _missing_answers(call: Call, person: Person) -> list[str]:
    response, days = await person.answers(), call.pathway.risk_answers_days
    if response is None:
        return ["Nobody has answered the risk questions"]
    missing = []
    if left_out := unanswered(response):
        missing.append(f"Risk questions have no answer: {', '.join(left_out)}")
    authored = since(response.get("authored"))
    if authored < call.now - timedelta(days=days) // timedelta(microseconds=1):
        when = f"of {local_day(authored)}" if authored > 0 else "of an unknown day"
        missing.append(f"The answers to the risk questions are {when}, older than {days} days")
    return missing
