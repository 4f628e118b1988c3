"""$everything of a Patient and of an Encounter.

https://hl7.org/fhir/R4/patient-operation-everything.html, encounter-operation-everything.html
"""

import asyncio
from collections import Counter
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.session import Session
from fhir_server.search.ast import Everything, Query, ReferenceTo
from tests.conftest import Restrict
from tests.fhir_operations.conftest import OnePatient
from tests.fhir_operations.record import (
    JSON,
    OTHER,
    PATIENT,
    YOUNG_PEOPLE,
    all_names,
    all_resources,
    compartment,
    name_of,
    names,
    pages,
    patients_of,
    references,
    referred,
)
from tests.support import assert_outcome, body, exact, put

EVERYTHING: Final = f"{PATIENT}/$everything"
MEMBERS: Final = compartment(PATIENT)
BESIDE: Final = referred(MEMBERS)
STAY: Final[str] = all_resources()[f"CarePlan/{PATIENT.partition('/')[2]}-plan-discharge"][
    "encounter"
]["reference"]


def of_types(found: set[str], *types: str) -> set[str]:
    return {name for name in found if name.partition("/")[0] in types}


def parameters(*given: JSON) -> dict[str, Any]:
    return body({"resourceType": "Parameters", "parameter": [*given]})


def observation(name: str, **elements: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": PATIENT},
        **elements,
    }


def test_the_sets_by_hand_are_worth_comparing() -> None:
    assert len(MEMBERS) > 12
    assert {name.partition("/")[0] for name in BESIDE} >= {"Organization", "PractitionerRole"}
    assert not MEMBERS & BESIDE


# A Patient -------------------------------------------------------------------------------------


async def test_is_the_patient_first_then_the_compartment_and_what_it_refers_to(
    caseload: httpx.AsyncClient,
) -> None:
    (bundle,) = await pages(caseload, f"{EVERYTHING}?_count=100")
    assert bundle["type"] == "searchset"
    assert names(bundle)[0] == PATIENT
    assert Counter(names(bundle, "match")) == Counter(MEMBERS)
    assert Counter(names(bundle, "include")) == Counter(BESIDE)
    for entry in bundle["entry"]:
        address = name_of(entry["resource"])
        assert entry["fullUrl"].endswith(f"/fhir/{address}")
        assert entry["resource"] == exact(await caseload.get(address))


@pytest.mark.parametrize("count", [1, 2, 7, 100])
async def test_each_comes_once_however_long_the_pages_are(
    caseload: httpx.AsyncClient, count: int
) -> None:
    found = await pages(caseload, f"{EVERYTHING}?_count={count}")
    assert all(len(page.get("entry", ())) <= count for page in found)
    shown = [name for page in found for name in names(page)]
    assert shown[0] == PATIENT
    assert Counter(shown) == Counter(MEMBERS | BESIDE)


async def test_types_of_which_there_is_nothing_are_not_searched(
    caseload: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, searched = Session.search, Counter[str]()

    async def noted(session: Session, query: Query, *more: Any) -> Any:
        searched[query.resource_type] += 1
        return await search(session, query, *more)

    monkeypatch.setattr(Session, "search", noted)
    assert (await caseload.get(EVERYTHING, params={"_count": 500})).status_code == 200
    there = {name.partition("/")[0] for name in MEMBERS | BESIDE}
    assert searched.keys() <= there


async def test_every_page_links_to_the_whole(caseload: httpx.AsyncClient) -> None:
    for page in await pages(caseload, f"{EVERYTHING}?_count=5&_type=Flag,Goal"):
        (itself,) = [link["url"] for link in page["link"] if link["relation"] == "self"]
        assert itself.endswith(f"{EVERYTHING}?_type=Flag%2CGoal&_count=5")


async def test_post_asks_as_get_does(caseload: httpx.AsyncClient) -> None:
    got = await caseload.get(f"{EVERYTHING}?_type=Flag&_type=Goal&_count=100&start=2026-01-01")
    posted = await caseload.post(
        EVERYTHING,
        **parameters(
            {"name": "_type", "valueCode": "Flag"},
            {"name": "_type", "valueCode": "Goal"},
            {"name": "_count", "valueInteger": 100},
            {"name": "start", "valueDate": "2026-01-01"},
        ),
    )
    assert got.status_code == posted.status_code == 200
    assert names(exact(got)) == names(exact(posted))
    bare = await caseload.post(EVERYTHING)
    assert names(exact(bare)) == names(exact(await caseload.get(EVERYTHING)))


@pytest.mark.parametrize("types", [("Flag",), ("Flag", "Consent"), ("Organization", "Goal")])
async def test_only_types_that_are_asked_for_are_shown(
    caseload: httpx.AsyncClient, types: tuple[str, ...]
) -> None:
    expected = of_types(MEMBERS | BESIDE, *types)
    assert expected
    listed = await all_names(caseload, f"{EVERYTHING}?_type={','.join(types)}&_count=3")
    assert Counter(listed) == Counter(expected)


async def test_only_what_was_changed_and_what_that_refers_to_is_shown_since_then(
    caseload: httpx.AsyncClient,
) -> None:
    goal = next(name for name in sorted(MEMBERS) if name.startswith("Goal/"))
    team = next(name for name in sorted(BESIDE) if name.startswith("Organization/"))
    flag = next(name for name in sorted(MEMBERS) if name.startswith("Flag/"))
    before = exact(await caseload.get(PATIENT))["meta"]["lastUpdated"]
    marker = await put(caseload, {"resourceType": "Basic", "id": "now", "code": {"text": "now"}})
    since = marker["meta"]["lastUpdated"]
    assert since > before
    for name in (goal, team, flag):
        resource = exact(await caseload.get(name))
        await put(caseload, {**resource, "language": "en-GB"})
    expected = {goal, team, flag}
    expected |= {
        target
        for name in (goal, flag)
        for target in references(all_resources()[name])
        if target in BESIDE
    }
    shown = await all_names(caseload, f"{EVERYTHING}?_since={since}&_count=2")
    assert Counter(shown) == Counter(expected)


async def test_start_and_end_are_days_of_care(caseload: httpx.AsyncClient) -> None:
    days: list[tuple[str, JSON]] = [
        ("before", {"effectiveDateTime": "2026-02-28"}),
        ("first", {"effectiveDateTime": "2026-03-01"}),
        ("last", {"effectiveDateTime": "2026-03-31T23:59:00+01:00"}),
        ("after", {"effectiveDateTime": "2026-04-01"}),
        ("overlaps", {"effectivePeriod": {"start": "2026-01-01", "end": "2026-03-01"}}),
        ("still", {"effectivePeriod": {"start": "2025-01-01"}}),
        ("ended", {"effectivePeriod": {"start": "2025-01-01", "end": "2026-02-28"}}),
        ("undated", {}),
    ]
    for name, elements in days:
        await put(caseload, observation(name, **elements))
    asked = f"{EVERYTHING}?_type=Observation&_count=3"
    for bounds, left_out in (
        ("", set()),
        ("&start=2026-03-01", {"before", "ended"}),
        ("&end=2026-03-31", {"after"}),
        ("&start=2026-03-01&end=2026-03-31", {"before", "ended", "after"}),
        ("&start=2026-03&end=2026-03", {"before", "ended", "after"}),
    ):
        shown = await all_names(caseload, asked + bounds)
        expected = {f"Observation/{name}" for name, _ in days if name not in left_out}
        assert Counter(shown) == Counter(expected), bounds


async def test_what_has_no_days_of_care_is_shown_whatever_the_days(
    caseload: httpx.AsyncClient,
) -> None:
    shown = await all_names(caseload, f"{EVERYTHING}?start=1990-01-01&end=1990-12-31")
    assert shown[0] == PATIENT
    assert of_types({*shown}, "RelatedPerson") == of_types(MEMBERS, "RelatedPerson")
    assert not of_types({*shown}, "Encounter", "Flag", "Consent", "QuestionnaireResponse")


async def test_a_file_that_an_attachment_points_to_comes_along(caseload: httpx.AsyncClient) -> None:
    await put(caseload, {"resourceType": "Binary", "id": "letter", "contentType": "text/plain"})
    await put(
        caseload,
        {
            "resourceType": "DocumentReference",
            "id": "letter",
            "status": "current",
            "subject": {"reference": PATIENT},
            "content": [{"attachment": {"url": "Binary/letter"}}],
        },
    )
    shown = await all_names(caseload, f"{EVERYTHING}?_type=DocumentReference,Binary")
    assert shown == ["DocumentReference/letter", "Binary/letter"]


async def test_nothing_of_another_patient_comes_along(caseload: httpx.AsyncClient) -> None:
    await put(caseload, {**observation("theirs"), "subject": {"reference": OTHER}})
    for name, patient in (("our", PATIENT), ("their", OTHER)):
        pump = {"resourceType": "Device", "id": f"{name}-pump", "patient": {"reference": patient}}
        await put(caseload, pump)
    focus = [OTHER, "Observation/theirs", "Device/our-pump", "Device/their-pump"]
    await put(caseload, observation("ours", focus=[{"reference": name} for name in focus]))
    shown = {*await all_names(caseload, f"{EVERYTHING}?_count=100")}
    assert shown == MEMBERS | BESIDE | {"Observation/ours", "Device/our-pump"}


async def test_a_reference_that_leads_nowhere_is_passed_over(caseload: httpx.AsyncClient) -> None:
    await put(caseload, {"resourceType": "Device", "id": "gone"})
    await caseload.delete("Device/gone")
    for name, device in (("a", "Device/gone"), ("b", "Device/never"), ("c", "https://x.org/D/1")):
        await put(caseload, observation(name, device={"reference": device}))
    shown = {*await all_names(caseload, f"{EVERYTHING}?_count=100")}
    assert shown == MEMBERS | BESIDE | {f"Observation/{name}" for name in "abc"}


# While others write ----------------------------------------------------------------------------


async def test_each_comes_once_while_others_write(caseload: httpx.AsyncClient) -> None:
    """What is not written meanwhile; what is changed or comes new may come too."""
    touched = sorted(of_types(MEMBERS, "Flag", "Consent"))
    shown: list[str] = []
    following: str | None = f"{EVERYTHING}?_count=2"
    turn = 0
    while following:
        page = exact(await caseload.get(following))
        shown += names(page)
        links = {link["relation"]: link["url"] for link in page["link"]}
        following = links.get("next")
        changed = exact(await caseload.get(touched[turn % len(touched)]))
        await asyncio.gather(
            put(caseload, {**changed, "language": f"en-x-{turn:03}"}),
            put(caseload, observation(f"new-{turn}")),
            put(caseload, {"resourceType": "Organization", "id": f"a-{turn}", "name": "A trust"}),
        )
        turn += 1
        assert turn < 200, "it goes on for ever"
    counts = Counter(shown)
    untouched = (MEMBERS | BESIDE) - {*touched}
    assert {name: counts[name] for name in untouched} == dict.fromkeys(untouched, 1)
    assert max(counts.values()) == 1
    assert {name for name in counts if name not in MEMBERS | BESIDE} <= {
        f"Observation/new-{n}" for n in range(turn)
    }


async def test_what_is_deleted_meanwhile_is_not_shown(caseload: httpx.AsyncClient) -> None:
    first = exact(await caseload.get(f"{EVERYTHING}?_count=1"))
    flag = next(iter(of_types(MEMBERS, "Flag")))
    there = {"If-Match": (await caseload.head(flag)).headers["etag"]}
    assert (await caseload.delete(flag, headers=there)).status_code in (200, 204)
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    assert flag not in await all_names(caseload, following)
    assert (await caseload.delete(PATIENT)).status_code in (200, 204)
    assert_outcome(await caseload.get(following), 410, "deleted", f"{PATIENT} was deleted")


# All patients ----------------------------------------------------------------------------------


async def test_of_the_type_is_that_of_all_patients_each_once(caseload: httpx.AsyncClient) -> None:
    patients = {name for name in all_resources() if name.startswith("Patient/")}
    assert len(patients) == YOUNG_PEOPLE
    members = {name for name in all_resources() if patients_of(all_resources()[name])}
    beside = referred(members)
    for count in (37, 100):
        shown = await all_names(caseload, f"Patient/$everything?_count={count}")
        assert {*shown[:YOUNG_PEOPLE]} == patients
        assert Counter(shown) == Counter(members | beside)
    flags = await all_names(caseload, "Patient/$everything?_type=Flag&_count=10")
    assert Counter(flags) == Counter(of_types(members, "Flag"))


async def test_of_the_type_is_nobody_where_there_is_nobody(client: httpx.AsyncClient) -> None:
    (bundle,) = await pages(client, "Patient/$everything")
    assert "entry" not in bundle


# An Encounter ----------------------------------------------------------------------------------


async def test_of_an_encounter_is_it_its_compartment_and_what_they_refer_to(
    caseload: httpx.AsyncClient,
) -> None:
    weight = observation("weight", encounter={"reference": STAY})
    await put(caseload, weight)
    await put(caseload, observation("of-another-visit"))
    members = {"Observation/weight"} | {
        name
        for name in of_types({*all_resources()}, "CarePlan", "CareTeam", "QuestionnaireResponse")
        if all_resources()[name].get("encounter", {}).get("reference") == STAY
    }
    resources = [all_resources()[STAY], weight]
    resources += [all_resources()[name] for name in members if name in all_resources()]
    beside = {target for one in resources for target in references(one)} - members - {STAY}
    assert PATIENT in beside
    for count in (2, 100):
        found = await pages(caseload, f"{STAY}/$everything?_count={count}")
        shown = [name for page in found for name in names(page)]
        assert shown[0] == STAY
        assert Counter(shown) == Counter({STAY} | members | beside)
    posted = exact(await caseload.post(f"{STAY}/$everything"))
    assert names(posted) == names(exact(await caseload.get(f"{STAY}/$everything")))
    only = await all_names(caseload, f"{STAY}/$everything?_type=Patient,Observation")
    assert only == ["Observation/weight", PATIENT]


async def test_of_an_encounter_is_nothing_of_another_patient(caseload: httpx.AsyncClient) -> None:
    await put(caseload, {**observation("theirs"), "subject": {"reference": OTHER}})
    focus = [{"reference": OTHER}, {"reference": "Observation/theirs"}]
    await put(caseload, observation("ours", encounter={"reference": STAY}, focus=focus))
    shown = await all_names(caseload, f"{STAY}/$everything?_count=100")
    assert "Observation/ours" in shown
    assert not {OTHER, "Observation/theirs"} & {*shown}


async def test_the_type_encounter_has_no_everything(client: httpx.AsyncClient) -> None:
    for address in ("Encounter/$everything", "Practitioner/1/$everything", "$everything"):
        assert_outcome(await client.get(address), 404, "not-found", "There is no operation")


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["Patient/p", "Encounter/p"])
async def test_who_is_not_there_is_not_found_and_who_was_deleted_is_gone(
    client: httpx.AsyncClient, of: str
) -> None:
    resource_type = of.partition("/")[0]
    for method in ("GET", "POST"):
        response = await client.request(method, f"{of}/$everything")
        assert_outcome(response, 404, "not-found", f"{of} is not known")
    elements: JSON = {"status": "planned", "class": {"code": "AMB"}}
    extra = elements if resource_type == "Encounter" else {}
    await put(client, {"resourceType": resource_type, "id": "p", **extra})
    await client.delete(of)
    for method in ("GET", "POST"):
        response = await client.request(method, f"{of}/$everything")
        assert_outcome(response, 410, "deleted", f"{of} was deleted")


@pytest.mark.parametrize(
    ("query", "text", "place"),
    [
        ("_type=Dragon", "'Dragon' is not a resource type of R4", "http._type"),
        ("_type=Flag,dragon", "'dragon' is not a resource type of R4", "http._type"),
        ("_since=2026-01-01", "'_since'", "http._since"),
        ("start=soon", "'start'", "http.start"),
        ("start=2026-02-02&end=2026-02-01", "is before the start", "http.end"),
        ("_count=0", "'0' is not a page size", "http._count"),
        ("_count=-1", "'-1' is not a page size", "http._count"),
        ("_count=many", "is not a whole number", "http._count"),
        ("colour=blue", "'colour' is not a parameter of $everything", "http.colour"),
        ("_page=abc", "not one that the server gave", "http._page"),
        ("_page=abc&_count=3", "takes no other parameters", "http._page"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, query: str, text: str, place: str
) -> None:
    await put(client, {"resourceType": "Patient", "id": "p"})
    response = await client.get(f"Patient/p/$everything?{query}")
    assert_outcome(response, 400, "invalid", text, place)


async def test_a_page_of_one_patient_is_no_page_of_another(caseload: httpx.AsyncClient) -> None:
    first = exact(await caseload.get(f"{EVERYTHING}?_count=1"))
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    moved = await caseload.get(following.replace(PATIENT, OTHER))
    assert_outcome(moved, 400, "invalid", f"was given for {EVERYTHING}", "http._page")
    with_more = await caseload.get(following + "&_type=Flag")
    assert_outcome(with_more, 400, "invalid", "takes no other parameters", "http._page")


# Access ----------------------------------------------------------------------------------------


async def test_shows_nothing_that_the_caller_may_not_see(
    caseload: httpx.AsyncClient, restrict: Restrict
) -> None:
    restrict(OnePatient())
    visible = MEMBERS | of_types(BESIDE, "Organization", "Location")
    assert visible < MEMBERS | BESIDE, "something is hidden"
    for address in (EVERYTHING, "Patient/$everything"):
        for count in (3, 100):
            shown = await all_names(caseload, f"{address}?_count={count}")
            assert Counter(shown) == Counter(visible)
    for operation in (OTHER, "Patient/never"):
        response = await caseload.get(f"{operation}/$everything")
        assert_outcome(response, 404, "not-found", f"{operation} is not known")


async def test_access_is_decided_again_on_every_page(
    caseload: httpx.AsyncClient, restrict: Restrict
) -> None:
    first = exact(await caseload.get(f"{EVERYTHING}?_count=1"))
    of_all = exact(await caseload.get("Patient/$everything?_count=1"))
    (following, all_following) = (
        link["url"]
        for page in (first, of_all)
        for link in page["link"]
        if link["relation"] == "next"
    )
    restrict(OnePatient(OTHER))
    response = await caseload.get(following)
    assert_outcome(response, 404, "not-found", f"{PATIENT} is not known")
    shown = {*await all_names(caseload, all_following)}
    theirs = compartment(OTHER)
    assert shown <= theirs | of_types(referred(theirs), "Organization", "Location")


async def test_what_only_a_hidden_resource_refers_to_is_not_shown(
    caseload: httpx.AsyncClient, restrict: Restrict
) -> None:
    """That somebody has to do with a ward is told by the visit alone, which is hidden."""

    class NoObservations(OnePatient):
        def readable(self, resource_type: str) -> Any:
            if resource_type == "Observation":
                return ReferenceTo("{Patient}", ())
            return Everything() if resource_type == "Device" else super().readable(resource_type)

    await put(caseload, {"resourceType": "Device", "id": "pump"})
    await put(caseload, observation("hidden", device={"reference": "Device/pump"}))
    assert "Device/pump" in await all_names(caseload, EVERYTHING)
    restrict(NoObservations())
    shown = await all_names(caseload, EVERYTHING)
    assert not {"Device/pump", "Observation/hidden"} & {*shown}
