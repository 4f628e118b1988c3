"""Search of several types, within a compartment, and includes of includes.

https://hl7.org/fhir/R4/http.html#search and https://hl7.org/fhir/R4/search.html#revinclude
"""

from typing import Final

import httpx
import pytest

from tests.support import FORM, found_ids, put


async def two_charts(client: httpx.AsyncClient) -> None:
    base = str(client.base_url).rstrip("/")
    for number in ("1", "2"):
        subject = {"reference": f"Patient/{number}"}
        await put(client, {"resourceType": "Patient", "id": number, "meta": {"tag": [TAG]}})
        await put(client, {"resourceType": "Basic", "id": f"b{number}", "subject": subject} | BASIC)
        plan = {"resourceType": "CarePlan", "status": "active", "intent": "plan"}
        await put(client, {**plan, "id": f"c{number}", "subject": subject})
    absolute = {"reference": f"{base}/Patient/1"}
    elsewhere = {"reference": "https://elsewhere.example/fhir/Patient/1"}
    await put(client, {"resourceType": "Basic", "id": "b3", "subject": absolute} | BASIC)
    await put(client, {"resourceType": "Basic", "id": "b4", "subject": elsewhere} | BASIC)
    entry = [{"item": {"reference": "CarePlan/c2"}}, {"item": {"reference": "Patient/1"}}]
    listed = {"resourceType": "List", "id": "l", "status": "current", "mode": "working"}
    await put(client, {**listed, "entry": entry})


TAG: Final = {"system": "urn:t", "code": "mine"}
BASIC: Final = {"code": {"text": "x"}, "meta": {"tag": [TAG]}}

SEVERAL: Final = {
    "?_type=Patient,CarePlan": ["1", "2", "c1", "c2"],
    "?_tag=mine": ["1", "2", "b1", "b2", "b3", "b4"],
    "?_type=Basic&_tag=mine": ["b1", "b2", "b3", "b4"],
    "?_id=c1,1&_contained=false": ["1", "c1"],
    "?_type=Patient,CarePlan&_list=l": ["1", "c2"],
    "?_type=CarePlan,Basic&patient=1": ["b1", "b3", "c1"],
    "Patient/1/CarePlan": ["c1"],
    "Patient/1/Patient": ["1"],
    "Patient/1/Basic": ["b1", "b3"],
    "Patient/1/*": ["1", "b1", "b3", "c1"],
    "Patient/1/*?_type=Basic,CarePlan": ["b1", "b3", "c1"],
    "Patient/1/CarePlan?status=revoked": [],
    "Patient/2/CarePlan?status=active": ["c2"],
    "Patient/nobody/*": [],
    "CarePlan?_list=l": ["c2"],
    "CarePlan?_list=other": [],
}


@pytest.mark.parametrize("search", SEVERAL)
async def test_searches_of_several_types_and_in_compartments_find(
    client: httpx.AsyncClient, search: str
) -> None:
    await two_charts(client)
    assert sorted(await found_ids(client, search)) == SEVERAL[search]
    address, _, query = search.partition("?")
    by_form = await client.post(f"{address}/_search", content=query, headers=FORM)
    ids = [entry["resource"]["id"] for entry in by_form.json().get("entry", ())]
    assert sorted(ids) == SEVERAL[search]
    separator = "&" if query else "?"
    counted = await client.get(f"{search}{separator}_summary=count")
    assert counted.json()["total"] == len(SEVERAL[search])


@pytest.mark.parametrize("sort", ["", "_id", "-_id", "_lastUpdated", "-_lastUpdated,_id", "_tag"])
@pytest.mark.parametrize("search", ["?_type=Patient,Basic,CarePlan,List", "Patient/1/*?_count=1"])
async def test_pages_over_several_types_show_each_once_and_in_order(
    client: httpx.AsyncClient, search: str, sort: str
) -> None:
    await two_charts(client)
    more = f"&_sort={sort}" if sort else ""
    whole = await found_ids(client, f"{search.replace('_count=1', '_count=50')}{more}")
    response = await client.get(
        f"{search}{more}&_count=2" if "_count" not in search else search + more
    )
    seen: list[str] = []
    while True:
        page = response.json()
        seen += [entry["resource"]["id"] for entry in page.get("entry", ())]
        links = {link["relation"]: link["url"] for link in page["link"]}
        if "next" not in links:
            break
        response = await client.get(links["next"])
    assert seen == whole
    if sort.endswith("_id") and not sort.startswith("-_l"):
        assert whole == sorted(whole, reverse=sort.startswith("-"))


@pytest.mark.parametrize(
    ("search", "status", "says"),
    [
        ("?_type=Dragon", 400, "'Dragon' is not a resource type"),
        ("?_type=Patient&_type=Basic", 400, "twice"),
        ("?status=active", 400, "'status' is not a search parameter of Account"[:37]),
        ("?_type=Patient,CarePlan&status=active", 400, "not a search parameter of Patient"),
        ("?_type=Patient,CarePlan&_sort=status", 400, "not a search parameter of Patient"),
        ("Patient?_type=Patient", 400, "several types"),
        ("Patient?_list:not=l", 400, "no modifier"),
        ("Patient?_list=$current-problems", 400, "not an id"),
        ("Patient?_contained=maybe", 400, "false, true or both"),
        ("Patient/1/Dragon", 404, "no address"),
        ("Patient/1/Questionnaire", 404, "ever in the compartment"),
        ("Location/1/CarePlan", 404, "no compartment"),
        ("Patient/1/CarePlan?_type=CarePlan", 400, "several types"),
        ("Patient/1/*?_type=Questionnaire", 400, "No Questionnaire"),
    ],
)
async def test_refuses_of_several_types_what_makes_no_sense(
    client: httpx.AsyncClient, search: str, status: int, says: str
) -> None:
    response = await client.get(search)
    assert response.status_code == status, response.text
    assert says in response.json()["issue"][0]["diagnostics"]


# Includes of includes


async def family(client: httpx.AsyncClient) -> None:
    """Locations that lie within each other, two of them in a ring."""
    for name, within in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "c")):
        part = {"partOf": {"reference": f"Location/{within}"}}
        trust = {"managingOrganization": {"reference": "Organization/trust"}}
        await put(client, {"resourceType": "Location", "id": name, **part, **trust})
    await put(client, {"resourceType": "Organization", "id": "trust", "name": "Trust"})
    stay = {"resourceType": "Encounter", "id": "stay", "status": "finished"}
    there = {"location": [{"location": {"reference": "Location/a"}}]}
    await put(client, {**stay, "class": {"code": "IMP"}, **there})


INCLUDES: Final = {
    "Location?_id=a&_include=Location:partof": {"b"},
    "Location?_id=a&_include:iterate=Location:partof": {"b", "c", "d"},
    "Location?_id=d&_include:iterate=Location:partof": {"c"},
    "Location?_id=a&_include=*": {"b", "trust"},
    "Location?_id=a&_include=Location:*": {"b", "trust"},
    "Location?_id=a&_include=Location:*:Organization": {"trust"},
    "Location?_id=a&_include:iterate=*": {"b", "c", "d", "trust"},
    "Encounter?_include=Encounter:location": {"a"},
    "Encounter?_include=Encounter:location&_include=Location:partof": {"a"},
    "Encounter?_include=Encounter:location&_include:iterate=Location:partof": {"a", "b", "c", "d"},
    "Encounter?_include:iterate=Location:organization": set[str](),
    "Organization?_revinclude=Location:organization": {"a", "b", "c", "d"},
    "Organization?_revinclude=Location:*": {"a", "b", "c", "d"},
    "Location?_id=c&_revinclude=Location:partof": {"b", "d"},
    "Location?_id=c&_revinclude:iterate=Location:partof": {"a", "b", "d"},
    "Location?_id=b&_revinclude:iterate=Encounter:location&_revinclude=Location:partof": {
        "a",
        "stay",
    },
    "?_type=Location,Encounter&_id=stay,a&_include=Location:partof": {"b"},
}


@pytest.mark.parametrize("search", INCLUDES)
async def test_includes_of_includes_and_of_everything(
    client: httpx.AsyncClient, search: str
) -> None:
    await family(client)
    response = await client.get(search)
    assert response.status_code == 200, response.text
    entries = response.json().get("entry", ())
    modes = [entry["search"]["mode"] for entry in entries]
    assert "outcome" not in modes
    included = [e["resource"]["id"] for e in entries if e["search"]["mode"] == "include"]
    assert sorted(included) == sorted(INCLUDES[search])


async def test_includes_of_includes_end_somewhere_and_say_so(client: httpx.AsyncClient) -> None:
    for number in range(20):
        part = {"partOf": {"reference": f"Location/l{number + 1}"}}
        await put(client, {"resourceType": "Location", "id": f"l{number}", **part})
    bundle = (await client.get("Location?_id=l0&_include:iterate=Location:partof")).json()
    *others, note = bundle["entry"]
    match, *included = [entry["resource"]["id"] for entry in others]
    assert (match, included) == ("l0", sorted(f"l{n}" for n in range(1, 11)))
    assert note["search"]["mode"] == "outcome"
    assert "up to 10 steps" in note["resource"]["issue"][0]["diagnostics"]
