"""Observation/$lastn.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from typing import Any, Final

import httpx
import pytest

from tests.conftest import Restrict
from tests.fhir_operations.conftest import OnePatient
from tests.fhir_operations.record import OTHER, PATIENT, names
from tests.support import assert_outcome, body, exact, put

LOINC: Final = "http://loinc.org"
CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
VITALS: Final = f"patient={PATIENT}&category=vital-signs"


def observation(
    name: str, codes: str, when: str | None, *, category: str = "vital-signs", **elements: Any
) -> dict[str, Any]:
    coding = [{"system": LOINC, "code": code} for code in codes.split()]
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"coding": coding} if coding else {"text": "Mood"},
        "subject": {"reference": PATIENT},
        **({"effectiveDateTime": when} if when else {}),
        **elements,
    }


@pytest.fixture
async def chart(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Weights and pulses of one young person, and what might be taken for them."""
    for resource in (
        observation("weight-1", "29463-7", "2026-01-01"),
        observation("weight-3", "29463-7", "2026-03-01"),
        observation("weight-2", "29463-7", "2026-02-01"),
        observation("weight-undated", "29463-7", None),
        observation("pulse-1", "8867-4", "2026-01-15T10:00:00Z"),
        observation("pulse-2", "8867-4", "2026-01-15T10:00:01Z"),
        observation("mood", "", "2026-01-20"),
        observation("mistaken", "29463-7", "2026-06-01", status="entered-in-error"),
        observation("cancelled", "29463-7", "2026-06-01", status="cancelled"),
        observation("sodium", "2951-2", "2026-06-01", category="laboratory"),
        observation("theirs", "29463-7", "2026-06-01", subject={"reference": OTHER}),
    ):
        await put(client, resource)
    return client


async def last(client: httpx.AsyncClient, query: str) -> list[str]:
    """The ids, in order."""
    response = await client.get(f"Observation/$lastn?{query}")
    assert response.status_code == 200, response.text
    bundle = exact(response)
    assert bundle["type"] == "searchset"
    assert bundle["link"][0]["relation"] == "self"
    found = names(bundle, "match")
    assert len(found) == len(bundle.get("entry", ()))
    return [name.removeprefix("Observation/") for name in found]


async def test_is_the_last_one_of_each_code(chart: httpx.AsyncClient) -> None:
    assert await last(chart, VITALS) == ["weight-3", "mood", "pulse-2"]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (2, ["weight-3", "weight-2", "mood", "pulse-2", "pulse-1"]),
        (9, ["weight-3", "weight-2", "weight-1", "weight-undated", "mood", "pulse-2", "pulse-1"]),
    ],
)
async def test_is_as_many_of_each_code_as_are_asked_for(
    chart: httpx.AsyncClient, most: int, expected: list[str]
) -> None:
    assert await last(chart, f"{VITALS}&max={most}") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"subject={PATIENT}&code={LOINC}%7C29463-7", ["weight-3"]),
        (f"subject={PATIENT}&code=29463-7,2951-2", ["sodium", "weight-3"]),
        (f"patient={PATIENT.partition('/')[2]}&code=29463-7&date=lt2026-02-15", ["weight-2"]),
        (f"{VITALS}&code=8867-4&max=1", ["pulse-2"]),
        (f"{VITALS}&code=unheard-of", []),
        ("patient=Patient/nobody&category=vital-signs", []),
    ],
)
async def test_is_among_those_that_the_criteria_find(
    chart: httpx.AsyncClient, query: str, expected: list[str]
) -> None:
    assert await last(chart, query) == expected


async def test_what_shares_a_coding_is_of_one_kind(client: httpx.AsyncClient) -> None:
    for resource in (
        observation("a", "one", "2026-01-04"),
        observation("b", "two", "2026-01-03"),
        observation("joins", "one two", "2026-01-02"),
        observation("other", "three", "2026-01-01"),
    ):
        await put(client, resource)
    assert await last(client, VITALS) == ["a", "other"]
    assert await last(client, f"{VITALS}&max=2") == ["a", "b", "other"]
    assert await last(client, f"{VITALS}&max=3") == ["a", "b", "joins", "other"]


async def test_the_same_code_of_two_subjects_is_of_two_kinds(chart: httpx.AsyncClient) -> None:
    found = await last(chart, f"patient={PATIENT},{OTHER}&code=29463-7")
    assert found == ["theirs", "weight-3"]


async def test_more_than_a_page_of_a_store_are_looked_through(client: httpx.AsyncClient) -> None:
    for start in range(0, 450, 45):
        entries = [
            {
                "request": {"method": "PUT", "url": f"Observation/o{n}"},
                "resource": observation(f"o{n}", f"c{n % 3}", f"20{10 + n // 12}-{n % 12 + 1:02}"),
            }
            for n in range(start, start + 45)
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert (await client.post("", **body(bundle))).status_code == 200
    assert await last(client, f"{VITALS}&max=2") == ["o449", "o446", "o448", "o445", "o447", "o444"]


async def test_post_asks_as_get_does(chart: httpx.AsyncClient) -> None:
    given = [
        {"name": "patient", "valueString": PATIENT},
        {"name": "category", "valueString": "vital-signs"},
        {"name": "max", "valuePositiveInt": 2},
    ]
    sent = body({"resourceType": "Parameters", "parameter": given})
    posted = await chart.post("Observation/$lastn", **sent)
    got = await chart.get(f"Observation/$lastn?{VITALS}&max=2")
    assert posted.status_code == 200
    assert posted.content == got.content


@pytest.mark.parametrize(
    ("query", "code", "text", "place"),
    [
        ("category=vital-signs", "required", "'patient' or 'subject' is required", "http.patient"),
        (f"patient={PATIENT}", "required", "'code' or 'category' is required", "http.code"),
        (f"{VITALS}&max=0", "invalid", "'max'", "http.max"),
        (f"{VITALS}&max=few", "invalid", "not a whole number", "http.max"),
        (f"{VITALS}&colour=blue", "invalid", "'colour' is not a parameter", "http.colour"),
        (f"{VITALS}&date=soon", "invalid", "soon", "http.date"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, query: str, code: str, text: str, place: str
) -> None:
    response = await client.get(f"Observation/$lastn?{query}")
    assert_outcome(response, 400, code, text, place)


async def test_an_answer_that_grows_too_long_is_refused(client: httpx.AsyncClient) -> None:
    entries = [
        {
            "request": {"method": "PUT", "url": f"Observation/o{n}"},
            "resource": observation(f"o{n}", f"c{n}", "2026-01-01"),
        }
        for n in range(101)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await client.post("", **body(bundle))).status_code == 200
    response = await client.get(f"Observation/$lastn?{VITALS}")
    assert_outcome(response, 403, "too-costly", "more than 100 observations")


async def test_what_the_caller_may_not_see_is_nobodys_last(
    chart: httpx.AsyncClient, restrict: Restrict
) -> None:
    restrict(OnePatient(OTHER))
    assert await last(chart, f"patient={PATIENT},{OTHER}&code=29463-7") == ["theirs"]
    assert await last(chart, VITALS) == []
