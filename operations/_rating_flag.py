"""One rating as a Flag: how it begins, ends, and goes on."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to, stable_id
from operations._event import Event
from operations._person import (
    Person,
    begun,
    code_in,
    extension,
    local_day,
    local_time,
    refers,
    since,
    status_of,
    with_extension,
    without_end,
)
from operations._sound import PROFESSIONALS, are, is_name

_TITLES: Final = {
    canonicals.RED: "Red: high risk of going into hospital",
    canonicals.AMBER: "Amber: at risk if the right support does not come soon",
    canonicals.GREEN: "Green: risks are managed well at home",
    canonicals.BLUE: "Blue: in a mental health hospital",
}
_NOT_TOLD: Final[Resource] = {
    "identifier": {"system": f"{canonicals.KW}/NamingSystem/author", "value": "not-told"},
    "display": "Not told",
}
"""Who rated, where nobody says: a rating has an author who is more than a name."""


def rated(colour: str, person: Person, start: str, author: Resource) -> Resource:
    """A rating without an id."""
    return {
        "resourceType": "Flag",
        "status": "active",
        "category": [
            {
                "coding": [
                    {"system": canonicals.FLAG_CATEGORY, "code": canonicals.DSR_ADMISSION_RISK}
                ]
            }
        ],
        "code": {
            "coding": [{"system": canonicals.DSR_RATING, "code": colour}],
            "text": _TITLES[colour],
        },
        "subject": {"reference": person.reference},
        "period": {"start": start},
        "author": author if _leads_somewhere(author) else _NOT_TOLD,
    }


def _leads_somewhere(author: Resource) -> bool:
    return bool(author.get("reference") or author.get("identifier", {}).get("value"))


def blue_of(event: Event) -> Resource:
    """What the event's stay brings, as it begins."""
    return {
        **_of_stay(event, canonicals.BLUE),
        "encounter": {"reference": reference_to(event.stay)},
    }


def red_of(event: Event) -> Resource:
    """What the end of the event's stay brings, with the date before which it is not set lower."""
    until = event.day + timedelta(days=event.pathway.red_hold_days)
    floor = {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": until.isoformat()}
    return with_extension(_of_stay(event, canonicals.RED), floor)


def _of_stay(event: Event, colour: str) -> Resource:
    flag = rated(colour, event.person, local_time(event.at), event.author)
    return {**flag, "id": flag_id(colour, event.stay)}


def flag_id(colour: str, stay: Resource) -> str:
    return stable_id("rating", colour, stay["id"])


def is_sound(flag: Resource) -> bool:
    """Whether who rated and when, all that is not the service's own, is as a rating has it."""
    return is_name(flag["author"], PROFESSIONALS) and are("dateTime", flag["period"]["start"])


def redated(known: Resource, flag: Resource) -> Resource:
    """What somebody has added to the flag since stays."""
    dated = {**known, "period": known.get("period", {}) | flag["period"]}
    if "encounter" in flag:
        dated["encounter"] = flag["encounter"]
    for item in flag.get("extension", ()):
        dated = with_extension(dated, item)
    return dated


def ended(flag: Resource, at: int, reason: str) -> Resource:
    """Not before it began."""
    period = {**flag.get("period", {}), "end": local_time(max(at, begun(flag)))}
    over = {**flag, "status": "inactive", "period": period}
    return with_extension(over, reason_extension(reason))


def mistaken(flag: Resource, now: int) -> Resource:
    """The rating that was never right; one that goes on ends now."""
    if status_of(flag) == "active":
        return ended(flag, now, "added-in-error")
    return with_extension(flag, reason_extension("added-in-error"))


def superseded(flag: Resource, by: Resource) -> Resource:
    """The rating as it ends when another begins."""
    return ended(flag, begun(by), "superseded")


def going_on(flag: Resource) -> Resource:
    """The rating as it was before it ended, if it has."""
    if status_of(flag) == "active":
        return flag
    others = [
        one
        for one in flag.get("extension", ())
        if one.get("url") != canonicals.RATING_END_REASON_EXTENSION
    ]
    kept = {name: value for name, value in flag.items() if name != "extension"}
    going = {**without_end(kept), "status": "active"}
    return going | ({"extension": others} if others else {})


def reason_extension(code: str, text: str = "", *, avoided: bool = False) -> Resource:
    concept: Resource = {"coding": [{"system": canonicals.RATING_END_REASON, "code": code}]}
    if text:
        concept["text"] = text
    if avoided:
        declared = {"url": canonicals.ADMISSION_AVOIDED_EXTENSION, "valueBoolean": True}
        concept["extension"] = [declared]
    return {"url": canonicals.RATING_END_REASON_EXTENSION, "valueCodeableConcept": concept}


def end_reason(flag: Resource) -> str | None:
    found = extension(flag, canonicals.RATING_END_REASON_EXTENSION) or {}
    return code_in(found.get("valueCodeableConcept"), canonicals.RATING_END_REASON)


def death_noted(flags: Iterable[Resource], now: int) -> int:
    """When a death was first on record, by the ratings that it ended; now, where it was not yet.

    Who was rated later lived then: that death was told in error.
    """
    known = [*flags]
    rated = max((begun(one) for one in known if _lasted(one)), default=now)
    ends = [since(one["period"].get("end")) for one in known if end_reason(one) == "deceased"]
    return min((end for end in ends if end >= rated), default=now)


def _lasted(flag: Resource) -> bool:
    if status_of(flag) == "active":
        return True
    over = since(flag.get("period", {}).get("end"))
    return end_reason(flag) != "added-in-error" and over > begun(flag)


def end_text(flag: Resource) -> str:
    """What was said of why it ended, besides the code."""
    found = extension(flag, canonicals.RATING_END_REASON_EXTENSION) or {}
    return str(found.get("valueCodeableConcept", {}).get("text", ""))


def belongs_to(flag: Resource, stay: Resource) -> bool:
    """Whether the rating names the stay, by a reference or by an identifier."""
    named = flag.get("encounter", {})
    return refers(named, stay) or _identifies(named.get("identifier", {}), stay)


def _identifies(identifier: Resource, stay: Resource) -> bool:
    told = identifier.get("system"), identifier.get("value")
    known = [(one.get("system"), one.get("value")) for one in stay.get("identifier", ())]
    return None not in told and told in known


def in_force(flag: Resource, now: int) -> bool:
    """Whether it is held; one that has no floor is."""
    floor = extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION)
    return floor is None or local_day(now).isoformat() < str(floor.get("valueDate", ""))
