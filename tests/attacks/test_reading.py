"""Classes 1 to 12 of what a server of records must withstand: what is read, found and counted.

Each test has the name of its class; beside what is refused it shows what is rightly given.
"""

import logging
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import pytest

from fhir_server.access import membership
from fhir_server.fhir.definitions import type_definition
from tests.access.people import ods, ref, rule
from tests.attacks.conftest import (
    HIDDEN,
    JSON_PATCH,
    KEYWORKER,
    MEMBER,
    MINE,
    SIGNATORY,
    STRANGER,
    World,
    hidden,
    of,
    plan,
    same_but_for_names,
)
from tests.jobs import finished

A: Final = f"CarePlan/{MINE.key}-a"
ABSENT: Final = "zz99"
SECRET: Final = f"x{HIDDEN.key[1:]}"


def next_page(bundle: Any) -> str:
    return str(next(one["url"] for one in bundle["link"] if one["relation"] == "next"))


@pytest.mark.parametrize("end", ["", "/_history", "/_history/1", "/$meta"])
async def test_01_forbidden_is_absent(world: World, end: str) -> None:
    for address in (f"{A}{end}", f"Patient/{MINE.key}{end}", f"Flag/{MINE.key}-f{end}"):
        assert (await world.get(KEYWORKER, address)).status_code == 200
        there = await world.get(KEYWORKER, hidden(address))
        absent = await world.get(KEYWORKER, address.replace(MINE.key, ABSENT))
        assert there.status_code == 404
        assert same_but_for_names(there, absent, (HIDDEN.key, ABSENT))
        assert (await world.get(STRANGER, address)).status_code == 404


@pytest.mark.parametrize(
    "included",
    [
        *("_include=*", "_include=CarePlan:goal&_include=CarePlan:based-on"),
        *("_include:iterate=*", "_revinclude=*", "_include=*&_revinclude=*&_count=1"),
    ],
)
async def test_02_includes_bring_nothing_hidden(world: World, included: str) -> None:
    links = {"basedOn": [ref(hidden(A))], "partOf": [ref(f"CarePlan/{HIDDEN.key}-s")]}
    await world.store({**of(MINE, "CarePlan", "a"), **links})
    theirs = {**of(HIDDEN, "CarePlan", "h"), "basedOn": [ref(A)], "partOf": [ref(A)]}
    await world.store(theirs)
    found = await world.get(KEYWORKER, f"CarePlan?_id={MINE.key}-a&{included}")
    assert HIDDEN.key not in found.text.replace(f"{HIDDEN.key}-a", "").replace(
        f"{HIDDEN.key}-s", ""
    )
    assert SECRET not in found.text
    if included.startswith("_include"):
        assert f"{MINE.key}-g" in {one["resource"]["id"] for one in found.json()["entry"]}


async def test_03_chains_tell_nothing_of_what_is_hidden(world: World) -> None:
    await world.store({**of(MINE, "CarePlan", "s"), "basedOn": [ref(hidden(A))]})
    shown = {
        f"CarePlan?patient.name={MINE.surname}": f"{MINE.key}-a",
        "Patient?_has:CarePlan:patient:status=active": MINE.key,
        "CarePlan?goal.lifecycle-status=active": f"{MINE.key}-a",
    }
    for address, wanted in shown.items():
        found = await world.ids(KEYWORKER, address)
        assert wanted in found
        assert not any(one.startswith(HIDDEN.key) for one in found)
        assert await world.ids(STRANGER, address) == set()
    for address in (
        "CarePlan?based-on:CarePlan.status=active",
        f"CarePlan?based-on:CarePlan.patient={HIDDEN.key}",
        f"CarePlan?based-on:CarePlan.patient.name={HIDDEN.surname}",
        f"Patient?_has:CarePlan:patient:_id={HIDDEN.key}-a",
        f"Patient?_filter=name%20eq%20{HIDDEN.surname}",
        f"CarePlan?_content={SECRET}careplana",
        f"CarePlan?_text={SECRET}careplana",
    ):
        assert await world.ids(KEYWORKER, address) == set(), address


async def test_03_what_is_masked_is_not_found_sorted_or_counted_by(world: World) -> None:
    assert await world.ids(SIGNATORY, "Flag?status=active") == {f"{MINE.key}-f"}
    day = of(MINE, "Flag", "f")["period"]["start"]
    for address in (
        *("Flag?author=Practitioner/kw", "Flag?author:missing=false", f"Flag?date=ge{day}"),
        *(f"Flag?date=lt{day}", "Flag?_sort=date", "Flag?patient.gender=female"),
        *("Patient?gender=female", "Patient?gender:missing=false", "Patient?_sort=gender"),
        *("Patient?address-city:missing=false", f"Patient?_text=x{MINE.key[1:]}patient"),
        *(f"Flag?_content=x{MINE.key[1:]}flagf", "Flag?_filter=author%20re%20Practitioner/kw"),
        *("Patient?_has:CarePlan:patient:status=active", "Patient?_has:Flag:patient:author=x"),
    ):
        assert await world.ids(SIGNATORY, address) == set(), address
        counted = await world.get(SIGNATORY, f"{address}&_summary=count")
        assert counted.json()["total"] == 0, address


@pytest.mark.parametrize("name", ["CarePlan", "Patient", "Flag", "Task", "Consent"])
async def test_04_nothing_hidden_is_counted(world: World, name: str) -> None:
    found = await world.get(KEYWORKER, f"{name}?_total=accurate&_count=1000")
    listed = len(found.json().get("entry", ()))
    assert found.json()["total"] == listed > 0
    assert (await world.get(KEYWORKER, f"{name}?_summary=count")).json()["total"] == listed
    assert (await world.get(STRANGER, f"{name}?_summary=count")).json()["total"] == 0
    none = await world.get(KEYWORKER, f"{name}?_id={HIDDEN.key},{HIDDEN.key}-a&_total=accurate")
    assert none.json()["total"] == 0


async def test_04_no_page_is_short_for_what_is_hidden_in_it(world: World) -> None:
    """Children whose papers lie between those of another."""
    several = [plan(one, id=f"{one.key}-p{n}") for n in range(6) for one in (MINE, HIDDEN)]
    for one in several:
        await world.store(one)
    address, sizes = "CarePlan?_sort=_lastUpdated&_count=2", []
    while address:
        found = (await world.get(KEYWORKER, address)).json()
        sizes.append(len(found.get("entry", ())))
        links = {one["relation"]: one["url"] for one in found["link"]}
        address = links.get("next", "")
    assert set(sizes[:-1]) == {2}
    assert sum(sizes) == len(await world.ids(KEYWORKER, "CarePlan?_count=100")) == 9


async def test_05_each_page_is_decided_again_and_is_its_callers(world: World) -> None:
    first = await world.get(MEMBER, "CarePlan?_count=1")
    following = next_page(first.json())
    assert (await world.get(MEMBER, following)).json()["entry"]
    assert (await world.get(KEYWORKER, following)).status_code == 400
    await world.withdraw(MINE)
    assert "entry" not in (await world.get(MEMBER, following)).json()


async def test_06_everything_and_export_of_what_may_be_seen(world: World) -> None:
    own = await world.get(KEYWORKER, f"Patient/{MINE.key}/$everything")
    assert f"x{MINE.key[1:]}careplana" in own.text
    there = await world.get(KEYWORKER, f"Patient/{HIDDEN.key}/$everything")
    absent = await world.get(KEYWORKER, f"Patient/{ABSENT}/$everything")
    assert there.status_code == 404
    assert same_but_for_names(there, absent, (HIDDEN.key, ABSENT))
    for name in ("$graphql", f"Composition/{HIDDEN.key}-w/$document"):
        assert (await world.get(KEYWORKER, name)).status_code in (400, 404)


async def test_06_an_export_is_its_clients_alone(world: World) -> None:
    started = await world.get(KEYWORKER, "Patient/$export", prefer="respond-async")
    address = started.headers["content-location"]
    world.client.headers.update(KEYWORKER.headers())
    done = await finished(world.client, address)
    told = [(await world.get(KEYWORKER, one["url"])).text for one in done.json()["output"]]
    assert f"x{MINE.key[1:]}careplana" in "".join(told)
    assert SECRET not in "".join(told)
    places = [address, done.json()["output"][0]["url"]]
    for place in places:
        for method in ("GET", "DELETE"):
            other = await world.ask(STRANGER, method, place)
            assert other.status_code in (404, 405), place
    assert (await world.get(KEYWORKER, address)).status_code == 200


async def test_06_what_an_export_has_written_is_closed_with_consent(world: World) -> None:
    """The file is not read again: who may not see what is in it does not get it."""
    started = await world.get(MEMBER, "Patient/$export", prefer="respond-async")
    world.client.headers.update(MEMBER.headers())
    done = await finished(world.client, started.headers["content-location"])
    places = [one["url"] for one in done.json()["output"]]
    await world.withdraw(MINE)
    for place in places:
        found = await world.get(MEMBER, place)
        assert f"x{MINE.key[1:]}" not in found.text, place


async def test_07_withdrawn_consent_closes_the_past_too(world: World) -> None:
    await world.store({**of(MINE, "CarePlan", "a"), "title": "another"})
    addresses = (
        *(f"{A}/_history", f"{A}/_history/1", f"{A}/_history/2", f"Patient/{MINE.key}"),
        *(f"CarePlan/{MINE.key}-gone/_history/1", f"CarePlan/{MINE.key}-gone/_history"),
    )
    for address in addresses:
        assert (await world.get(MEMBER, address)).status_code == 200, address
    assert (await world.get(MEMBER, f"CarePlan/{MINE.key}-gone")).status_code == 410
    await world.withdraw(MINE)
    for address in (*addresses, f"CarePlan/{MINE.key}-gone"):
        assert (await world.get(MEMBER, address)).status_code == 404, address
    for address in ("_history?_count=1000", "CarePlan/_history?_since=2020-01-01"):
        found = await world.get(MEMBER, address)
        assert f"x{MINE.key[1:]}careplan" not in found.text


async def test_08_nothing_hidden_in_what_holds_other_things(world: World) -> None:
    inside = plan(HIDDEN, id="inner")
    await world.store(
        {
            "resourceType": "Bundle",
            "id": "box",
            "type": "collection",
            "entry": [{"resource": inside}],
        },
        {**of(HIDDEN, "List", "l"), "id": "both", "entry": [{"item": ref(A)}]},
        {
            "resourceType": "Provenance",
            "id": "two",
            "target": [ref(f"Patient/{MINE.key}"), ref(f"Patient/{HIDDEN.key}")],
        },
        {**of(MINE, "Composition", "w"), "id": "two-c", "subject": ref(f"Patient/{HIDDEN.key}")},
    )
    for address in ("Bundle/box", "List/both", "Provenance/two", "Composition/two-c"):
        assert (await world.get(KEYWORKER, address)).status_code == 404, address
    for address in (f"Binary/{MINE.key}-y", f"Bundle/{MINE.key}-u"):
        assert (await world.get(KEYWORKER, address)).status_code == 404, address
    for name in ("Composition", "List", "DocumentReference", "Provenance"):
        end = {"Composition": "w", "List": "l", "DocumentReference": "d", "Provenance": "v"}[name]
        assert await world.ids(KEYWORKER, name) >= {f"{MINE.key}-{end}"}


_ELEMENTS: Final = ("subject", "patient", "beneficiary", "for", "individual", "candidate")
_OTHERWISE: Final[dict[str, Any]] = {
    "Appointment": lambda who: {"participant": [{"actor": who, "status": "accepted"}]},
    "AppointmentResponse": lambda who: {"actor": who},
    "Provenance": lambda who: {"target": [who]},
    "Patient": lambda _: {},
}


def about(resource_type: str, resource_id: str, patient_id: str) -> dict[str, Any]:
    """A resource of any type that is about that patient, by what its definition names."""
    who = ref(f"Patient/{patient_id}")
    told = {"resourceType": resource_type, "id": resource_id}
    if resource_type in _OTHERWISE:
        return {**told, **_OTHERWISE[resource_type](who)}
    known = type_definition(resource_type).elements
    name = next(one for one in _ELEMENTS if one in known)
    return {**told, name: [who] if known[name].repeats else who}


async def test_09_no_type_forgets_whose_it_is(world: World) -> None:
    types = [one for one in membership.record_types() if one != "Patient"]
    assert len(types) > 60
    for name in types:
        await world.store(about(name, "ours", MINE.key), about(name, "theirs", HIDDEN.key))
    for name in types:
        found = await world.ids(KEYWORKER, f"{name}?_count=1000")
        assert "ours" in found, name
        assert "theirs" not in found, name
        assert (await world.get(KEYWORKER, f"{name}/theirs")).status_code == 404, name
        assert (await world.get(KEYWORKER, f"{name}/ours")).status_code == 200, name
        assert not await world.ids(STRANGER, f"{name}?_count=1000"), name


async def test_10_who_is_only_mentioned_gives_no_membership(world: World) -> None:
    mine, theirs = ref(f"Patient/{MINE.key}"), ref(f"Patient/{HIDDEN.key}")
    await world.store(
        {"resourceType": "Observation", "id": "o1", "subject": theirs, "focus": [mine]},
        {"resourceType": "Task", "id": "t1", "for": theirs, "focus": mine, "owner": mine},
        {"resourceType": "Communication", "id": "m1", "subject": theirs, "recipient": [mine]},
        {"resourceType": "DocumentReference", "id": "d1", "subject": theirs, "author": [mine]},
        {"resourceType": "Observation", "id": "o2", "subject": mine, "focus": [theirs]},
        {
            "resourceType": "SearchParameter",
            "id": "mentioned",
            "url": "urn:mentioned",
            "code": "mentioned",
            "base": ["Observation"],
            "status": "active",
            "type": "reference",
            "target": ["Patient"],
            "expression": "Observation.focus",
            "name": "Focus",
            "description": "by focus",
        },
    )
    for address in ("Observation/o1", "Task/t1", "Communication/m1", "DocumentReference/d1"):
        assert (await world.get(KEYWORKER, address)).status_code == 404, address
    assert "o1" not in await world.ids(KEYWORKER, "Observation?_count=100")
    assert (await world.get(KEYWORKER, "Observation/o2")).status_code == 200


async def test_11_answers_and_logs_quote_nothing_hidden(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    test = [{"op": "test", "path": "/title", "value": "guess"}]
    told = [
        await world.ask(KEYWORKER, "PATCH", hidden(A), test, JSON_PATCH),
        await world.ask(KEYWORKER, "PUT", hidden(A), {**plan(MINE), "id": f"{HIDDEN.key}-a"}),
        await world.ask(KEYWORKER, "POST", "CarePlan", plan(MINE, basedOn=[ref(hidden(A))])),
        await world.ask(KEYWORKER, "POST", "CarePlan", plan(HIDDEN)),
        await world.ask(KEYWORKER, "GET", f"{hidden(A)}/$validate"),
        await world.ask(KEYWORKER, "DELETE", hidden(A)),
        await world.get(KEYWORKER, f"CarePlan?patient.identifier={quote('|' + HIDDEN.number)}"),
    ]
    assert [one.status_code for one in told][:2] == [404, 404]
    for one in told:
        for word in (f"{SECRET}careplana", HIDDEN.surname):
            assert word not in one.text.replace(f'"title":"{SECRET}', "")
    assert f"{SECRET}careplan" not in caplog.text
    assert HIDDEN.surname not in caplog.text
    own = [{"op": "test", "path": "/title", "value": "guess"}]
    mine = await world.ask(KEYWORKER, "PATCH", A, own, JSON_PATCH)
    assert mine.status_code in (409, 412, 422, 400)


async def test_12_nothing_remembered_outlives_what_it_was_decided_by(world: World) -> None:
    assert (await world.get(MEMBER, A)).status_code == 200
    assert await world.ids(MEMBER, "CarePlan") >= {f"{MINE.key}-a"}
    await world.withdraw(MINE)
    assert (await world.get(MEMBER, A)).status_code == 404
    assert await world.ids(MEMBER, "CarePlan") == set()
    await world.store(of(MINE, "Consent", "keyworking"))
    assert (await world.get(MEMBER, A)).status_code == 200
    await world.store({**of(MINE, "CareTeam", "t"), "participant": []})
    assert (await world.get(MEMBER, A)).status_code == 404
    assert await world.ids(MEMBER, "CarePlan") == set()
    assert (await world.get(KEYWORKER, A)).status_code == 200


async def test_12_what_was_decided_for_one_purpose_is_not_for_another(world: World) -> None:
    consent = of(MINE, "Consent", "keyworking")
    system = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
    purpose = [{"system": system, "code": "HOPERAT"}]
    inner = rule("deny", ods("C11"), purpose=purpose)
    consent["provision"] = {**consent["provision"], "provision": [inner]}
    await world.store(consent)
    assert (await world.get(MEMBER, A)).status_code == 200
    assert (await world.get(replace(MEMBER, purpose="HOPERAT"), A)).status_code == 404
    assert (await world.get(MEMBER, A)).status_code == 200
