"""Awkward resources of every type, from a seed; `ask.py` has the searches.

A resource is grown along the routes of its type's search parameters, with values from small
pools, so that searches from the same pools often hit. Hypothesis draws the seeds, and shrinks
how many there are.
"""

import html
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any, Final

from fhir_server.fhir.definitions import type_definition
from fhir_server.fhir.json import Resource
from fhir_server.search.composites import composites
from fhir_server.search.extract import indexed_parameters, routes_of
from fhir_server.search.paths import Route
from tests.storage.questions import BASE

Values = Callable[[Random], Any]

STRINGS: Final = (
    "Ash",
    "ash",
    "ASHTON",
    "Áshton",
    "A\u0301sh",
    "straße",
    "STRASSE",
    "İstanbul",
    "istanbul",
    "\ufb01eld",
    "Field",
    "O'Brien, Seán",
    "a|b$c\\d",
    " two  words\n",
    "ŉdi",
    "Ⅷ",
    "日本",
    "한글",
    "\ud7ff",
    "\U0010ffff",
    "\U0010ffffx",
    "%_*?",
    "x",
)
CODES: Final = ("active", "ACTIVE", "a", "b", "a,b", "a|b", "a\\b", "é", "true", "736366004")
SYSTEMS: Final = (None, "http://snomed.info/sct", "urn:oid:1.2.3", "http://loinc.org")
CALENDAR: Final = (
    "2010",
    "2010-06",
    "2010-06-15",
    "2025-12-31",
    "2026",
    "2026-01-01",
    "2026-03",
    "2026-03-29",
    "2026-10-25",
    "2024-02-29",
    "0001",
    "0001-01-01",
    "9999",
    "9999-12",
    "9999-12-31",
)
CLOCK: Final = (
    "2010-06-15T00:00:00+01:00",
    "2025-12-31T23:59:59Z",
    "2025-12-31T23:59:59.999Z",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.000001Z",
    "2026-01-01T00:00:00.1234567Z",
    "2026-03-29T00:30:00Z",
    "2026-03-29T01:30:00",
    "2026-03-29T02:30:00+01:00",
    "2026-10-25T01:30:00+01:00",
    "2026-10-25T01:30:00Z",
    "2016-12-31T23:59:60Z",
    "2017-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
)
NUMBERS: Final = (
    "0",
    "-0",
    "-1",
    "1",
    "5.4",
    "5.40",
    "5.35",
    "99.5",
    "99.49",
    "100",
    "100.00",
    "100.5",
    "1e2",
    "1E-7",
    "0.3",
    "0.30000000000000004",
    "12345678901234567890123456789",
    "-1e30",
    "1e308",
    "1e400",
    "-1e400",
)
UNITS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"unit": "kg"},
    {"unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    {"unit": "gram", "system": "http://unitsofmeasure.org", "code": "g"},
    {"unit": "g", "system": "urn:other", "code": "kg"},
)
REFERENCES: Final = (
    "Composition/1",
    "MessageHeader/1",
    "Patient/1",
    "Patient/2",
    "Patient/1/_history/2",
    "Group/1",
    "Practitioner/1",
    "Organization/1",
    "Encounter/1",
    "Location/2",
    f"{BASE}/Patient/1",
    f"{BASE}/Patient/1/_history/2",
    "https://elsewhere.example/fhir/Patient/1",
    "urn:uuid:6f8d0a4e-6a0f-4c0e-9e0e-3f1f0a4b7c11",
    "#contained",
)
URIS: Final = (
    "http://q.example/1",
    "http://q.example/1|1.0",
    "http://q.example/1|2.0",
    "http://q.example/2",
    "http://q.example/1/2",
    "http://q.example/1/",
    "http://q.example/10",
    "urn:oid:1.2.3",
    "Questionnaire/1",
)


TERMINOLOGY: Final[tuple[Resource, ...]] = (
    {
        "resourceType": "CodeSystem",
        "url": "http://loinc.org",
        "content": "complete",
        "concept": [
            {"code": "a", "concept": [{"code": "b"}, {"code": "a,b"}, {"code": "active"}]},
            {"code": "é", "concept": [{"code": "736366004"}, {"code": "a|b"}]},
            {"code": "ACTIVE", "concept": [{"code": "true"}, {"code": "a\\b"}]},
        ],
    },
    {
        "resourceType": "ValueSet",
        "url": "http://vs/listed",
        "compose": {
            "include": [
                {"system": "http://loinc.org", "concept": [{"code": code} for code in CODES[:7]]},
                {"system": "urn:oid:1.2.3", "concept": [{"code": code} for code in CODES[3:]]},
            ]
        },
    },
    {
        "resourceType": "ValueSet",
        "url": "http://vs/whole",
        "compose": {
            "include": [
                {"system": "http://snomed.info/sct"},
                {"system": "http://loinc.org", "concept": [{"code": "ACTIVE"}]},
            ],
            "exclude": [{"system": "http://snomed.info/sct", "concept": [{"code": "a"}]}],
        },
    },
    {
        "resourceType": "ValueSet",
        "url": "http://vs/many",
        "compose": {
            "include": [
                {
                    "system": "http://loinc.org",
                    "concept": [
                        *({"code": f"code-{number}"} for number in range(200)),
                        *({"code": code} for code in CODES[:4]),
                    ],
                }
            ]
        },
    },
    {
        "resourceType": "ValueSet",
        "url": "http://vs/none",
        "compose": {
            "include": [
                {
                    "system": "http://loinc.org",
                    "concept": [{"code": "a"}],
                    "valueSet": ["http://vs/whole"],
                },
            ]
        },
    },
)
VALUE_SETS: Final = (
    "http://vs/listed",
    "http://vs/listed",
    "http://vs/whole",
    "http://vs/whole",
    "http://vs/many",
    "http://vs/none",
    "http://hl7.org/fhir/ValueSet/administrative-gender",
    "http://hl7.org/fhir/ValueSet/request-status",
    "http://vs/unknown",
)
LATITUDES: Final = (
    "-90",
    "-89.999",
    "-1",
    "0",
    "0.00001",
    "51.5074",
    "51.52",
    "89.999",
    "90",
    "91",
)
LONGITUDES: Final = ("-180", "-179.99", "-0.1278", "0", "0.5", "2.3522", "179.99", "180", "181")
ADDRESSES: Final = ("http://q.example", "http://q.example/", "http://q.example/1", "http://q.ex/1")


def _one(pool: tuple[Any, ...]) -> Values:
    return lambda random: random.choice(pool)


def _some(random: Random, make: Values, most: int = 2) -> list[Any]:
    return [make(random) for _ in range(random.randint(1, most))]


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, [], {})}


def _maybe(random: Random, make: Values) -> Any:
    return make(random) if random.random() < 0.6 else None


def _coding(random: Random) -> Any:
    return _present(
        system=random.choice(SYSTEMS),
        code=_maybe(random, _one(CODES)),
        display=_maybe(random, _one(STRINGS)),
    )


def _identifier(random: Random) -> Any:
    return _present(
        system=random.choice(SYSTEMS),
        value=_maybe(random, _one(CODES)),
        type=_concept(random) if random.random() < 0.3 else None,
        use="usual",
    )


def _contact(random: Random) -> Any:
    systems = (None, "phone", "email", "fax")
    return _present(system=random.choice(systems), value=random.choice(CODES))


def _concept(random: Random) -> Any:
    return _present(
        coding=_maybe(random, lambda r: _some(r, _coding)), text=random.choice(("x", *STRINGS))
    )


def _name(random: Random) -> Any:
    text = _one(STRINGS)
    return _present(
        family=_maybe(random, text),
        given=_maybe(random, lambda r: _some(r, text)),
        text=_maybe(random, text),
        use="official",
    )


def _address(random: Random) -> Any:
    text = _one(STRINGS)
    return _present(
        line=_maybe(random, lambda r: _some(r, text)),
        city=_maybe(random, text),
        state=_maybe(random, text),
        country=_maybe(random, text),
        postalCode=_maybe(random, text),
        use=random.choice(("home", "work", None)),
        type="both",
    )


def _reference(random: Random) -> Any:
    return _present(
        reference=_maybe(random, _one(REFERENCES)),
        type=random.choice((None, None, "Patient")),
        identifier=_identifier(random) if random.random() < 0.3 else None,
        display="x",
    )


def _period(random: Random) -> Any:
    moment = _one(CALENDAR + CLOCK)
    return _present(start=_maybe(random, moment), end=_maybe(random, moment)) or {"id": "x"}


def _timing(random: Random) -> Any:
    return _present(
        event=_maybe(random, lambda r: _some(r, _one(CALENDAR + CLOCK))),
        repeat=_maybe(random, lambda r: {"boundsPeriod": _period(r)}),
        code={"text": "x"},
    )


def _number(random: Random) -> Any:
    return Decimal(random.choice(NUMBERS))


def _quantity(random: Random) -> Any:
    comparator = random.choice((None, None, None, "<", "<=", ">=", ">"))
    return _present(comparator=comparator, **random.choice(UNITS), value=_maybe(random, _number))


def _range(random: Random) -> Any:
    def bound(random: Random) -> Any:
        return {"value": _number(random), **random.choice(UNITS)}

    return _present(low=_maybe(random, bound), high=_maybe(random, bound))


def _money(random: Random) -> Any:
    return _present(value=_maybe(random, _number), currency=random.choice((None, "GBP", "EUR")))


def _place(random: Random) -> Any:
    return _present(
        latitude=Decimal(random.choice(LATITUDES)),
        longitude=_maybe(random, lambda r: Decimal(r.choice(LONGITUDES))),
    )


def _within(random: Random) -> Any:
    """A resource that stands in another."""
    types = ("Composition", "MessageHeader", "Patient")
    return _present(resourceType=random.choice(types), id=_maybe(random, _one(("1", "2"))))


_whole: Final = _one((0, 1, 2, 100, 101, 2**31 - 1))
_VALUES: Final[Mapping[str, Values]] = {
    "Coding": _coding,
    "CodeableConcept": _concept,
    "Identifier": _identifier,
    "ContactPoint": _contact,
    "HumanName": _name,
    "Address": _address,
    "Reference": _reference,
    "Period": _period,
    "Timing": _timing,
    "Range": _range,
    "Money": _money,
    "Location.position": _place,
    "Resource": _within,
    "boolean": _one((True, False)),
    "code": _one(CODES),
    "date": _one(CALENDAR),
    "dateTime": _one(CALENDAR + CLOCK),
    "instant": _one(CLOCK),
    "decimal": _number,
    **dict.fromkeys(("string", "markdown"), _one(STRINGS)),
    **dict.fromkeys(("uri", "url", "oid", "uuid", "canonical", "id"), _one(URIS)),
    **dict.fromkeys(("integer", "positiveInt", "unsignedInt"), _whole),
    **dict.fromkeys(
        ("Quantity", "Age", "Duration", "Count", "Distance", "SimpleQuantity"), _quantity
    ),
}


WORLD: Final = (
    "Patient",
    "Group",
    "Practitioner",
    "Organization",
    "Encounter",
    "Location",
    "EpisodeOfCare",
    "CarePlan",
    "CareTeam",
    "Goal",
    "Observation",
    "Task",
)
"""Types that refer to each other, in the tests of chains."""


def resource(resource_type: str, resource_id: str, random: Random, share: float = 0.35) -> Resource:
    """A resource with values for a share of its search parameters."""
    grown: Resource = {"resourceType": resource_type, "id": resource_id}
    planted = _routes(resource_type)
    # In any order, so that every type of a choice comes first once in a while.
    for route, kept in random.sample(planted, len(planted)):
        if random.random() < share:
            _plant(grown, route, kept, random)
    if random.random() < share and "text" in type_definition(resource_type).elements:
        grown["text"] = {"status": "generated", "div": narrative(random)}
    return grown


def narrative(random: Random) -> str:
    """Texts in mark-up that parts words, or does not; now and then no XML at all."""
    marks = ("<p>{}</p>", "<b>{}</b>", "{}<br/>", "<!-- {} -->", "<i title='Ash'>{}</i>", "{} ")
    inside = "".join(
        random.choice(marks).format(html.escape(random.choice(STRINGS)))
        for _ in range(random.randint(0, 4))
    )
    end = "</div>" if random.random() < 0.9 else "<"
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{inside}{end}'


def linked(resource_type: str, resource_id: str, random: Random, highest: int) -> Resource:
    """As `resource`, with references that mostly lead to one of the `WORLD`."""
    grown = resource(resource_type, resource_id, random, 0.6)
    for route, kept in _routes(resource_type):
        for value in route.values(grown):
            if route.type == "Reference" and not kept and random.random() < 0.8:
                assert route.element is not None
                near = [name for name in route.element.targets or WORLD if name in WORLD]
                target = f"{random.choice(near or WORLD)}/{random.randint(1, highest)}"
                base = random.choice(("", "", "", f"{BASE}/"))
                value["reference"] = base + target
    return grown


Kept = Mapping[str, str]
"""What the condition in an expression keeps: a property and its value."""


@cache
def _routes(resource_type: str) -> tuple[tuple[Route, Kept], ...]:
    return tuple(
        (route, _kept(parameter.expression))
        for parameter in indexed_parameters(resource_type).values()
        for route in routes_of(parameter, resource_type)
        if parameter.code != "_lastUpdated"
    ) + tuple(
        (Route((*context.steps, *route.steps), route.type, route.element), {})
        for composite in composites(resource_type).values()
        for context, components in composite.contexts
        for component in components
        if not component.from_resource
        for route, _ in component.routes
    )


def _kept(expression: str) -> Kept:
    found = dict(re.findall(r"where\((\w+) ?= ?'([^']*)'\)", expression))
    if target := re.search(r"resolve\(\) is (\w+)", expression):
        found["reference"] = f"{target[1]}/1"
    return found


def _plant(node: dict[str, Any], route: Route, kept: Kept, random: Random) -> None:
    """Let a value grow at the end of the route; what stands on the way is used or made."""
    type_name = node["resourceType"]
    for step in route.steps:
        definition = type_definition(type_name)
        element = definition.elements[step.name]
        if set(definition.choices.get(element.base_name, ())) & set(node) - {step.name}:
            return
        last = step is route.steps[-1]
        chosen = _VALUES.get(element.type) if last else None
        made = {} if chosen is None else chosen(random)
        if made == {} and chosen is not None:
            return
        if step.keep is not None and random.random() < 0.5:
            made.update(kept)
        if not element.repeats:
            node.setdefault(step.name, made)
        elif last or step.name not in node or random.random() < 0.3:
            node.setdefault(step.name, []).append(made)
        if not last:
            inner = node[step.name]
            node = random.choice(inner) if isinstance(inner, list) else inner
            type_name = element.type
