"""What the index holds of a resource.

The routes are compared with fhirpathpy, an independent FHIRPath engine: for every indexed
parameter of every type, it evaluates the expression that HL7 publishes.
https://hl7.org/fhir/R4/searchparameter-registry.html
"""

import json as stdlib_json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any, Final

import fhirpathpy
import pytest
from fhirpathpy.models import models
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir import json
from fhir_server.fhir.dates import EARLIEST, LATEST, interval
from fhir_server.fhir.definitions import resource_types, search_parameters
from fhir_server.fhir.json import Resource
from fhir_server.search.composites import composites
from fhir_server.search.extract import (
    extract,
    indexed_parameters,
    routes_of,
    ways_of,
)
from fhir_server.search.values import (
    INFINITY,
    CompositeValue,
    DateValue,
    IndexValue,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
)
from tests.search import generate

NOT_INDEXED: Final = {
    "_content": "its words are no values; see test_text.py",
    "_text": "its words are no values; see test_text.py",
    "_filter": "a language over the others; see test_filter.py",
    "_id": "a column of its own",
    "_query": "has no expression",
}
"""Parameters of R4 that no expression says where to find."""

ANOTHER_READING: Final = {
    ("ConceptMap", "source-uri"): "fhirpathpy takes a canonical for a uri; `source` is for those",
    ("ConceptMap", "target-uri"): "fhirpathpy takes a canonical for a uri; `target` is for those",
    ("Bundle", "composition"): "the path of `message` too, and each is about its own type",
    ("Bundle", "message"): "the path of `composition` too",
}
"""Where the routes differ from fhirpathpy, and why."""

SEEDS: Final = range(96)


@cache
def evaluator(expression: str) -> Callable[[Resource], list[Any]]:
    compiled = fhirpathpy.compile(expression, models["r4"])
    return lambda resource: compiled(resource, {})


def by_fhirpathpy(expression: str, resource: Resource) -> list[Any]:
    return evaluator(rewritten(expression, resource["resourceType"]))(resource)


def rewritten(expression: str, resource_type: str) -> str:
    """Without what fhirpathpy cannot do.

    It reads no other resource: a target's type stands in the reference, or beside it. A path
    begins with the type itself, not with what the type derives from. `as` is for one item, as
    the newest FHIRPath says; R4's expressions use it for many.
    """
    expression = re.sub(r"\b(Domain)?Resource\.", f"{resource_type}.", expression)
    expression = re.sub(r"\((\S+) as (\w+)\)", r"\1.ofType(\2)", expression)
    return re.sub(
        r"resolve\(\) is (\w+)",
        r"(reference.startsWith('\1/') or reference.contains('/\1/') or type = '\1')",
        expression,
    )


def plain(resource: Resource) -> Any:
    """Decimals as text, since fhirpathpy makes numbers of its own."""
    return stdlib_json.loads(json.encode(resource), parse_float=str)


def shown(values: list[Any]) -> set[str]:
    """To compare; a union drops what stands twice."""
    return {stdlib_json.dumps(value, sort_keys=True, default=str) for value in values}


@pytest.mark.parametrize("resource_type", resource_types())
def test_routes_lead_where_the_expressions_lead(resource_type: str) -> None:
    resources = [
        plain(generate.resource(resource_type, f"r{seed}", Random(seed), 0.6))  # noqa: S311
        for seed in SEEDS
    ]
    for code, parameter in indexed_parameters(resource_type).items():
        routes = routes_of(parameter, resource_type)
        if parameter.type == "composite" or code == "_lastUpdated":
            continue
        if any(route.present for route in routes):
            continue
        if (resource_type, code) in ANOTHER_READING:
            continue
        reached = False
        for resource in resources:
            found = [value for route in routes for value in route.values(resource)]
            expected = by_fhirpathpy(parameter.expression, resource)
            assert shown(found) == shown(expected), f"{code}: {parameter.expression}"
            reached |= bool(found)
        assert reached, f"no resource has a value for {code}"


@pytest.mark.parametrize("resource_type", [name for name in resource_types() if composites(name)])
def test_components_of_composites_lead_where_the_expressions_lead(resource_type: str) -> None:
    resources = [
        plain(generate.resource(resource_type, f"r{seed}", Random(seed), 0.6))  # noqa: S311
        for seed in SEEDS
    ]
    for code, composite in composites(resource_type).items():
        parameter = search_parameters(resource_type)[code]
        for number, (_, expression) in enumerate(parameter.components):
            reached = False
            for resource in resources:
                found = [
                    value
                    for context, components in composite.contexts
                    for element in context.values(resource)
                    for route, _ in components[number].routes
                    for value in route.values(
                        resource if components[number].from_resource else element
                    )
                ]
                path = composed(parameter.expression, expression)
                if "%resource" not in expression:
                    assert shown(found) == shown(by_fhirpathpy(path, resource)), f"{code}: {path}"
                reached |= bool(found)
            assert reached, f"no resource has a value for {code}"


def composed(contexts: str, expression: str) -> str:
    """Paths to the components from the resource's type, as of every context."""
    # fhirpathpy finds a choice only where it stands with its whole path.
    alternatives = [part.strip().replace("DateTime", "dateTime") for part in expression.split("|")]
    alternatives = [re.sub(r"\.as\((\w+)\)", r".ofType(\1)", part) for part in alternatives]
    return " | ".join(
        f"{context.strip()}.{part}" for context in contexts.split("|") for part in alternatives
    )


@pytest.mark.parametrize("resource_type", resource_types())
def test_what_is_not_indexed_is_listed(resource_type: str) -> None:
    indexed = indexed_parameters(resource_type)
    missing = search_parameters(resource_type).keys() - indexed.keys()
    # `_text` is of those that have a narrative.
    assert missing == NOT_INDEXED.keys() - ({"_text"} - search_parameters(resource_type).keys())


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ({}, False),
        ({"deceasedBoolean": False}, False),
        ({"deceasedBoolean": True}, True),
        ({"deceasedDateTime": "2020"}, True),
    ],
)
def test_whether_someone_died_is_what_the_expression_says(
    rest: dict[str, Any], expected: bool
) -> None:
    patient = {"resourceType": "Patient", "id": "a", **rest}
    expression = search_parameters("Patient")["deceased"].expression
    assert by_fhirpathpy(expression, patient) == [expected]
    assert values(patient, "deceased") == [TokenValue("", str(expected).lower())]


# Values


def values(resource: Resource, code: str) -> list[IndexValue]:
    return [value for name, value in extract(resource) if name == code]


def observation(**rest: Any) -> Resource:
    return {"resourceType": "Observation", "id": "o", **rest}


UCUM: Final = "http://unitsofmeasure.org"


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ({"value": 5}, [QuantityValue(5, 5, "", "", "")]),
        (
            {"value": Decimal("5.40"), "system": UCUM, "code": "kg", "unit": "kilo"},
            [QuantityValue(5.4, 5.4, UCUM, "kg", "kilo")],
        ),
        ({"value": 5, "comparator": "<"}, [QuantityValue(-INFINITY, 5, "", "", "")]),
        ({"value": 5, "comparator": "<="}, [QuantityValue(-INFINITY, 5, "", "", "")]),
        ({"value": 5, "comparator": ">"}, [QuantityValue(5, INFINITY, "", "", "")]),
        ({"value": 5, "comparator": ">="}, [QuantityValue(5, INFINITY, "", "", "")]),
        ({"value": Decimal("1e400")}, [QuantityValue(INFINITY, INFINITY, "", "", "")]),
        ({"value": -(10**400)}, [QuantityValue(-INFINITY, -INFINITY, "", "", "")]),
        ({"unit": "kg"}, []),
    ],
)
def test_quantities_are_ranges_in_a_unit(quantity: Any, expected: list[IndexValue]) -> None:
    assert values(observation(valueQuantity=quantity), "value-quantity") == expected


@pytest.mark.parametrize(
    ("period", "low", "high"),
    [
        ({"start": "2026", "end": "2026-02"}, interval("2026").low, interval("2026-02").high),
        ({"start": "2026"}, interval("2026").low, LATEST),
        ({"end": "2026"}, EARLIEST, interval("2026").high),
    ],
)
def test_periods_are_open_where_an_end_is_absent(period: Any, low: int, high: int) -> None:
    assert values(observation(effectivePeriod=period), "date") == [DateValue(low, high)]


@pytest.mark.parametrize(
    ("property_", "value"),
    [
        ("effectivePeriod", {"start": "2026-02", "end": "2026-01"}),
        ("effectivePeriod", {}),
        ("effectivePeriod", {"start": "soon"}),
        ("valueRange", {"low": {"value": 2}, "high": {"value": 1}}),
    ],
)
def test_what_ends_before_it_begins_is_no_value(property_: str, value: Any) -> None:
    found = extract(observation(**{property_: value}))
    assert not [code for code, _ in found if code in ("date", "value-quantity")]


def test_a_range_without_an_end_is_open() -> None:
    risk = {"resourceType": "RiskAssessment", "id": "r"}
    prediction = [{"probabilityRange": {"low": {"value": Decimal("0.5")}}}]
    assert values({**risk, "prediction": prediction}, "probability") == [NumberValue(0.5, INFINITY)]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"reference": "Patient/1"}, [ReferenceValue("Patient/1")]),
        ({"reference": "Patient/1/_history/2"}, [ReferenceValue("Patient/1", "2")]),
        ({"reference": "https://x/Patient/1"}, [ReferenceValue("https://x/Patient/1")]),
        ({"reference": "Dragon/1"}, [ReferenceValue("Dragon/1")]),
        ({"reference": "#p"}, []),
        ({"identifier": {"value": "1"}}, []),
    ],
)
def test_references_are_targets_with_versions(reference: Any, expected: list[IndexValue]) -> None:
    assert values(observation(subject=reference), "subject") == expected


def test_a_canonical_uri_is_found_with_and_without_its_version() -> None:
    tagged = observation(meta={"profile": ["http://p|1", "http://q"]})
    assert values(tagged, "_profile") == [
        UriValue("http://p|1"),
        UriValue("http://p"),
        UriValue("http://q"),
    ]


def test_a_value_that_stands_twice_is_one_entry() -> None:
    code = {"coding": [{"system": "s", "code": "c"}, {"system": "s", "code": "c"}]}
    assert values(observation(code=code), "code") == [TokenValue("s", "c")]


def test_texts_are_folded_and_kept() -> None:
    patient = {"resourceType": "Patient", "id": "a", "name": [{"family": " Müller  Straße"}]}
    assert values(patient, "family") == [StringValue("muller strasse", " Müller  Straße")]


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Patient", "id": "1"}, {("{Patient}", "Patient/1")}),
        (
            {"resourceType": "CarePlan", "id": "c", "subject": {"reference": "Patient/1"}},
            {("{Patient}", "Patient/1")},
        ),
        (
            {"resourceType": "CarePlan", "id": "c", "subject": {"reference": "Group/1"}},
            set(),
        ),
        (
            {
                "resourceType": "CarePlan",
                "id": "c",
                "subject": {"reference": "Patient/1/_history/3"},
                "encounter": {"reference": "Encounter/e"},
            },
            {("{Patient}", "Patient/1"), ("{Encounter}", "Encounter/e")},
        ),
        (
            # A performer of another type places it in that one's compartment alone.
            {
                "resourceType": "CarePlan",
                "id": "c",
                "activity": [{"detail": {"performer": [{"reference": "Practitioner/9"}]}}],
            },
            {("{Practitioner}", "Practitioner/9")},
        ),
        (
            # What R4's definition does not list admits nothing: contributor is no membership.
            {"resourceType": "CarePlan", "id": "c", "contributor": [{"reference": "Patient/2"}]},
            set(),
        ),
        (
            # `focus` places no Observation in the compartment (ATTACKS.md, 10).
            {"resourceType": "Observation", "id": "o", "focus": [{"reference": "Patient/2"}]},
            set(),
        ),
    ],
)
def test_compartments_are_values_in_braces(
    resource: Resource, expected: set[tuple[str, str]]
) -> None:
    found = {
        (code, value.target)
        for code, value in extract(resource)
        if code.startswith("{") and isinstance(value, ReferenceValue)
    }
    assert found == expected


# Whatever comes


anything: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("value", "system", "code", "low", "high", "start", "end", "event")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(seed=st.integers(0, 2**32), wrong=anything, choice=st.integers(0, 200))
def test_what_has_not_the_type_that_is_expected_is_passed_over(
    seed: int, wrong: Any, choice: int
) -> None:
    random = Random(seed)  # noqa: S311
    resource = generate.resource(random.choice(resource_types()), "r", random)
    names = [name for name in resource if name not in ("resourceType", "id")]
    if names:
        resource[names[choice % len(names)]] = wrong
    assert isinstance(extract(resource), list)


def test_a_text_that_only_repeats_the_narrative_counts_once() -> None:
    div = '<div xmlns="http://www.w3.org/1999/xhtml">Tea</div>'
    flag = {"resourceType": "Flag", "id": "f", "code": {"text": "tea"}, "text": {"div": div}}
    assert [value for code, value in extract(flag) if code == "_content"] == [TextValue("tea")]


@given(seed=st.integers(0, 2**32))
def test_extraction_is_stable_and_without_repeats(seed: int) -> None:
    random = Random(seed)  # noqa: S311
    resource = generate.resource(random.choice(resource_types()), "r", random)
    found = extract(resource)
    assert found == extract(json.decode_resource(json.encode(resource)))
    assert len(found) == len(set(found))


def test_a_composite_that_others_make_up_has_no_values_of_its_own() -> None:
    combined = composites("Observation")["combo-code-value-quantity"]
    assert combined.made_of == ("code-value-quantity", "component-code-value-quantity")
    pressure = {"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": Decimal(150)}}
    whole = {"resourceType": "Observation", **pressure, "component": [pressure]}
    found = {code for code, value in extract(whole) if isinstance(value, CompositeValue)}
    assert found == set(combined.made_of)


@pytest.mark.parametrize("resource_type", resource_types())
def test_the_values_of_one_parameter_are_read_off_the_members_that_it_looks_at(
    resource_type: str,
) -> None:
    """As includes read references, without the rest of the resource."""
    resource = generate.resource(resource_type, "r1", Random(1), 0.6)  # noqa: S311
    whole, raw = extract(resource), json.encode(resource)
    for parameter in indexed_parameters(resource_type).values():
        if parameter.type == "reference":
            ways = ways_of(parameter, resource_type)
            members = json.decode_members(raw, tuple(route.steps[0].name for route, _ in ways))
            assert {value for index, value in whole if index == parameter.index} == {
                found
                for route, convert in ways
                for value in route.values(members)
                for found in convert(value)
            }
