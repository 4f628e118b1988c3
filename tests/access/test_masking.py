"""Colour only: what is behind the mask is not shown, found, sorted or counted, by any route."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.masking import is_masked_type, is_public, masked_resource
from fhir_server.app import Application
from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.json import Resource
from fhir_server.search.extract import extract, indexed_parameters
from tests.access.conftest import As
from tests.access.deciding import CARE_TEAM, COLOUR, Decided, about, rating
from tests.storage.questions import put
from tests.support import found_ids

NUMBER: Final = {"system": canonicals.NHS_NUMBER, "value": "9990000018"}
CHILD: Final[Resource] = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"source": "https://ward.example/secure"},
    "identifier": [NUMBER, {"system": "https://ward.example/spell", "value": "77"}],
    "name": [{"family": "Test", "given": ["Kim"], "period": {"start": "2019"}}],
    "birthDate": "2012-05-01",
    "gender": "female",
    "address": [{"city": "Leeds"}],
    "telecom": [{"system": "phone", "value": "0"}],
}
FLAG: Final = rating(
    "f1",
    "p1",
    author={"reference": "Practitioner/1"},
    encounter={"reference": "Encounter/1"},
    period={"start": "2026-05-01"},
    text={"status": "generated", "div": "<div>secret</div>"},
    extension=[{"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": "2026-06-01"}],
    category=[
        {
            "coding": [
                {"system": canonicals.FLAG_CATEGORY, "code": canonicals.DSR_ADMISSION_RISK},
                {"system": canonicals.SNOMED_CT, "code": "secret"},
            ],
            "text": "secret",
        }
    ],
)
ALERT: Final = about(
    "Flag",
    "alert",
    "p1",
    status="active",
    code={"coding": [{"system": canonicals.SNOMED_CT, "code": "1"}], "text": "secret"},
)
PAST: Final = rating("past", "p1", "blue", status="inactive")


@pytest.fixture
async def region(app: Application, signed_in: As) -> None:
    await put(app.state.store, CHILD, FLAG, ALERT, PAST, about("CarePlan", "c1", "p1"))
    signed_in(Decided({"p1": COLOUR}))


def shown(resource: Mapping[str, Any]) -> dict[str, Any]:
    assert resource["meta"]["tag"][-1]["code"] == "SUBSETTED"
    return {name: value for name, value in resource.items() if name != "meta"}


RATING: Final = {
    "resourceType": "Flag",
    "id": "f1",
    "status": "active",
    "category": [
        {"coding": [{"system": canonicals.FLAG_CATEGORY, "code": canonicals.DSR_ADMISSION_RISK}]}
    ],
    "code": {"coding": [{"system": canonicals.DSR_RATING, "code": "red"}]},
    "subject": {"reference": "Patient/p1"},
}
WHO: Final = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [NUMBER],
    "name": [{"family": "Test", "given": ["Kim"]}],
    "birthDate": "2012-05-01",
}


@pytest.mark.usefixtures("region")
async def test_a_read_shows_the_colour_and_who_it_is(client: httpx.AsyncClient) -> None:
    for address, wanted in (("Flag/f1", RATING), ("Patient/p1", WHO)):
        read = await client.get(address)
        assert shown(read.json()) == wanted
        assert read.headers["etag"] == 'W/"1"'
        assert "source" not in read.json()["meta"]
        version = await client.get(f"{address}/_history/1")
        assert shown(version.json()) == wanted
        part = await client.get(address, params={"_elements": "author,address"})
        assert "author" not in part.json()
        assert "address" not in part.json()


@pytest.mark.usefixtures("region")
async def test_bundles_show_no_more(client: httpx.AsyncClient) -> None:
    for address in (
        *("Flag", "Flag?_include=Flag:patient&_include=Flag:author", "Patient/p1/Flag"),
        *("Patient?_revinclude=Flag:patient&_revinclude=CarePlan:patient", "Patient/p1/*"),
        *("Patient/p1/$everything", "Flag/f1/_history", "Flag/_history", "?_type=Flag,Patient"),
    ):
        answer = await client.get(address)
        assert answer.status_code == 200, answer.text
        assert "secret" not in answer.text
        assert "Leeds" not in answer.text
        found = [one["resource"] for one in answer.json()["entry"]]
        assert found
        for one in found:
            wanted = RATING if one["resourceType"] == "Flag" else WHO
            assert shown(one) == wanted, address


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("address", ["Flag/alert", "Flag/past", "CarePlan/c1", "Flag/none"])
async def test_what_the_mask_hides_is_not_there(client: httpx.AsyncClient, address: str) -> None:
    for route in ("", "/_history", "/_history/1", "/$meta"):
        assert (await client.get(address + route)).status_code == 404


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "search",
    [
        *("Flag?author=Practitioner/1", "Flag?author:missing=false", "Flag?author:missing=true"),
        *("Flag?date=2026-05-01", "Flag?encounter=Encounter/1", "Flag?_text=secret"),
        *("Flag?_content=secret", "Flag?minimum-until=2026-06-01", "Flag?code:text=told"),
        *("Flag?code=red", "Flag?category=secret", "Flag?_filter=author pr true"),
        *("Flag?_sort=date", "Flag?_sort=-author", "Flag?patient.address-city=Leeds"),
        *(
            "Flag?status=active&author=Practitioner/1",
            "Flag?code:not=red",
            "Flag?_source=https://x",
        ),
        *("Flag?patient:Patient.gender=female", "Patient?gender=female", "Patient?phone=0"),
        *("Patient?address-city=Leeds", "Patient?identifier=77", "Patient?_sort=gender"),
        *("Patient?identifier=https://ward.example/spell|77", "Patient?_sort=identifier"),
        *("Patient?_has:Flag:patient:author=Practitioner/1", "Patient?general-practitioner=1"),
        *("Patient?_has:CarePlan:patient:_id=c1", "Patient?identifier:missing=false"),
    ],
)
async def test_nobody_finds_sorts_or_counts_by_what_is_masked(
    client: httpx.AsyncClient, search: str
) -> None:
    assert await found_ids(client, search) == []
    counted = await client.get(search, params={"_summary": "count", **_of(search)})
    assert counted.json()["total"] == 0


def _of(search: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in search.partition("?")[2].split("&"))


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "search",
    [
        *("Flag", "Flag?patient=p1", "Flag?status=active", "Flag?_id=f1&_sort=_lastUpdated"),
        *(f"Flag?code={canonicals.DSR_RATING}|red", "Flag?patient.name=Test", "Flag?_sort=status"),
        *("Flag?patient.birthdate=2012-05-01", "Patient?name=Kim", "Patient?birthdate=lt2020"),
        *(f"Patient?identifier={NUMBER['system']}|{NUMBER['value']}", "Patient?_sort=family"),
        *(f"Patient?_has:Flag:patient:code={canonicals.DSR_RATING}|red",),
    ],
)
async def test_what_is_shown_is_found(client: httpx.AsyncClient, search: str) -> None:
    assert len(await found_ids(client, search)) == 1


async def test_whoever_sees_all_of_one_child_sees_the_mask_on_another(
    app: Application, client: httpx.AsyncClient, signed_in: As
) -> None:
    other = {**rating("f2", "p2", author={"reference": "Practitioner/1"})}
    await put(app.state.store, CHILD, {**CHILD, "id": "p2"}, FLAG, other)
    signed_in(Decided({"p1": COLOUR, "p2": CARE_TEAM}))
    assert await found_ids(client, "Flag?author=Practitioner/1") == ["f2"]
    assert await found_ids(client, "Flag?patient.gender=female") == ["f2"]
    assert sorted(await found_ids(client, "Flag")) == ["f1", "f2"]
    whole = (await client.get("Flag/f2")).json()
    assert whole["author"]
    assert "tag" not in whole["meta"]


def test_only_flags_and_patients_are_seen_in_part() -> None:
    assert [name for name in resource_types() if is_masked_type(name)] == ["Flag", "Patient"]


@pytest.mark.parametrize("one", [CHILD, FLAG], ids=["Patient", "Flag"])
def test_what_is_public_finds_the_masked_resource_as_it_finds_the_whole(one: Resource) -> None:
    """A parameter whose values are on both sides of the mask would tell what it covers."""
    name = one["resourceType"]
    whole, seen = set(extract(one)), set(extract(masked_resource(one)))
    for code, value in whole - seen:
        system = getattr(value, "system", "")
        asked = {code} if not system else {code, f"{code}|{system}"}
        assert not any(is_public(name, frozenset({each})) for each in asked), (code, value)
    assert {code for code in indexed_parameters(name) if is_public(name, frozenset({code}))}
