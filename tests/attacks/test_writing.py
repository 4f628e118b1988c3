"""Classes 13 to 18: what is written, moved and overwritten."""

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest

from fhir_server.fhir import canonicals
from tests.access import cast
from tests.access.people import competence, ods, ref, rule
from tests.access.region import CHILDREN, day
from tests.attacks.conftest import (
    HIDDEN,
    JSON_PATCH,
    KEYWORKER,
    KIND,
    MEMBER,
    MINE,
    STRANGER,
    World,
    hidden,
    of,
    plan,
    same_but_for_names,
)

A: Final = f"CarePlan/{MINE.key}-a"
LABEL: Final = {"system": canonicals.ACT_CODE, "code": "TBOO"}
MATCHED: Final = {"if-match": 'W/"1"'}
OWN: Final = "user/*.cruds"
CHECKED: Final = [{"verified": True, "verifiedWith": ref(f"Patient/{MINE.key}")}]


def decided(child: Any, **rest: Any) -> dict[str, Any]:
    """A consent of today, to be created."""
    told = of(
        child if any(one["resourceType"] == "Consent" for one in child.papers) else MINE,
        "Consent",
        "keyworking",
    )
    del told["id"]
    whose = {"patient": ref(f"Patient/{child.key}"), "performer": [ref(f"Patient/{child.key}")]}
    found = {"extension": [competence("gillick-competent", day(-1))]}
    return {**told, **whose, **found, "dateTime": day(0), **rest}


async def test_13_whoever_may_gives_and_records_a_consent(world: World) -> None:
    patient = replace(cast.patient(MINE), scopes=OWN)
    own = decided(MINE)
    del own["extension"]  # whoever gives it tells of no assessment of their own
    given = await world.ask(patient, "POST", "Consent", own)
    assert given.status_code == 201, given.text
    recorded = await world.ask(KEYWORKER, "POST", "Consent", decided(MINE, verification=CHECKED))
    assert recorded.status_code == 201, recorded.text


@pytest.mark.parametrize(
    ("who", "changed"),
    [
        (KIND["care-team member"], {}),
        (KIND["signatory of health"], {"provision": rule("permit", ods("H11"))}),
        (KIND["stranger"], {"performer": [ref("Practitioner/stranger")]}),
        (KIND["administrator"], {"verification": CHECKED}),
        (KIND["inpatient unit with a stay"], {"verification": CHECKED}),
        (KEYWORKER, {}),
        (KEYWORKER, {"verification": CHECKED, "dateTime": day(-200)}),
        (KEYWORKER, {"verification": CHECKED, "performer": [ref("Practitioner/kw")]}),
        (
            replace(cast.parent(MINE), scopes=OWN),
            {"performer": [ref(f"RelatedPerson/{MINE.key}-mum")]},
        ),
        (replace(cast.patient(HIDDEN), scopes=OWN), {}),
        (replace(cast.parent(HIDDEN), scopes=OWN), {}),
    ],
    ids=lambda one: one.kind if isinstance(one, cast.Cast) else "+".join(one),
)
async def test_13_nobody_grants_themselves(
    world: World, who: cast.Cast, changed: dict[str, Any]
) -> None:
    refused = await world.ask(who, "POST", "Consent", decided(MINE, **changed))
    assert refused.status_code in (403, 404), refused.text
    over = {**of(MINE, "Consent", "keyworking"), **changed, "provision": rule("permit")}
    changed_there = await world.ask(
        who, "PUT", f"Consent/{MINE.key}-keyworking", over, headers=MATCHED
    )
    assert changed_there.status_code in (403, 404, 412), changed_there.text
    assert await world.version("Consent", f"{MINE.key}-keyworking") == 1


async def test_13_a_purpose_is_the_tokens_and_an_end_is_an_end(world: World) -> None:
    for state in ("expired", "not-yet", "wrong-giver", "denied"):
        child = next(one for one in CHILDREN if (one.age, one.state) == ("competent", state))
        await world.store(*child.stored)
        assert (await world.get(MEMBER, f"CarePlan/{child.key}-a")).status_code == 404, state
    consent = of(MINE, "Consent", "keyworking")
    system = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
    told = {**consent["provision"], "purpose": [{"system": system, "code": "HOPERAT"}]}
    await world.store({**consent, "provision": told})
    assert (await world.get(MEMBER, A)).status_code == 404
    for named in ("purpose", "purpose-of-use", "x-purpose-of-use"):
        assert (await world.get(MEMBER, A, **{named: "HOPERAT"})).status_code == 404
    assert (await world.get(replace(MEMBER, purpose="HOPERAT"), A)).status_code == 200


def moved(**changed: Any) -> dict[str, Any]:
    return {**of(MINE, "CarePlan", "a"), **changed}


_TO: Final = f"Patient/{HIDDEN.key}"
_BY_PATH: Final = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "replace"},
                {"name": "path", "valueString": "CarePlan.subject.reference"},
                {"name": "value", "valueString": _TO},
            ],
        }
    ],
}
_MARKED: Final[dict[str, Any]] = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "meta", "valueMeta": {"tag": [{"code": "HTEST", "system": canonicals.ACT_REASON}]}}
    ],
}


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    request = {"method": "PUT", "url": A, "ifMatch": 'W/"1"'}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": resource, "request": request}],
    }


async def test_14_nothing_is_moved_into_another_record(world: World) -> None:
    matched = {"if-match": 'W/"1"'}
    pointer = [{"op": "replace", "path": "/subject/reference", "value": _TO}]
    mark = [
        {
            "op": "add",
            "path": "/meta/tag/-",
            "value": _MARKED["parameter"][0]["valueMeta"]["tag"][0],
        }
    ]
    tried = [
        await world.ask(KEYWORKER, "PUT", A, moved(subject=ref(_TO)), headers=matched),
        await world.ask(KEYWORKER, "PATCH", A, pointer, JSON_PATCH, matched),
        await world.ask(KEYWORKER, "PATCH", A, _BY_PATH, headers=matched),
        await world.ask(KEYWORKER, "PATCH", A, mark, JSON_PATCH, matched),
        await world.ask(KEYWORKER, "POST", "", _entry(moved(subject=ref(_TO)))),
        await world.ask(KEYWORKER, "POST", f"{A}/$meta-add", _MARKED),
        await world.ask(KEYWORKER, "POST", "CarePlan", plan(HIDDEN)),
        await world.ask(
            MEMBER,
            "PATCH",
            A,
            [{"op": "replace", "path": "/title", "value": "x"}],
            JSON_PATCH,
            matched,
        ),
    ]
    assert [one.status_code for one in tried] == [403] * len(tried), [one.text for one in tried]
    assert await world.version("CarePlan", f"{MINE.key}-a") == 1
    assert HIDDEN.surname not in "".join(one.text for one in tried)
    own = await world.ask(KEYWORKER, "PUT", A, moved(title="by right"), headers=matched)
    assert own.status_code == 200, own.text


async def test_14_labels_are_not_taken_off_by_who_is_shut_out_by_them(world: World) -> None:
    patient = replace(cast.patient(MINE), scopes=OWN)
    address = f"CarePlan/{MINE.key}-h"
    meta = {"name": "meta", "valueMeta": {"security": [LABEL]}}
    told = {"resourceType": "Parameters", "parameter": [meta]}
    assert (await world.get(patient, address)).status_code == 404
    for method, path, body in (
        ("POST", f"{address}/$meta-delete", told),
        ("PUT", address, {**moved(id=f"{MINE.key}-h"), "meta": {"tag": [{"code": "x"}]}}),
    ):
        refused = await world.ask(patient, method, path, body)
        assert refused.status_code in (403, 404)
    taken = await world.ask(KEYWORKER, "POST", f"{address}/$meta-delete", told)
    assert taken.status_code == 200, taken.text
    assert (await world.get(patient, address)).status_code == 200


async def test_14_import_is_for_who_may_write_everything(world: World) -> None:
    line = plan(HIDDEN, id="imported")
    for who in (KEYWORKER, MEMBER, STRANGER):
        import json

        sent = json.dumps(line).encode() + b"\n"
        told = await world.ask(
            who, "POST", "$import", sent, "application/fhir+ndjson", {"prefer": "respond-async"}
        )
        if told.status_code == 202:
            from tests.jobs import finished

            world.client.headers.update(who.headers())
            await finished(world.client, told.headers["content-location"])
        assert await world.version("CarePlan", "imported") == 0, who.kind


@pytest.mark.parametrize("name", [f"_id={HIDDEN.key}-a", "title=none"])
async def test_15_criteria_find_nothing_hidden(world: World, name: str) -> None:
    absent = "_id=absent-a"
    patch = [{"op": "replace", "path": "/title", "value": "x"}]

    async def all_of(criteria: str) -> list[Any]:
        return [
            await world.ask(KEYWORKER, "DELETE", f"CarePlan?{criteria}"),
            await world.ask(KEYWORKER, "PATCH", f"CarePlan?{criteria}", patch, JSON_PATCH),
        ]

    if name.startswith("_id"):
        for one, other in zip(await all_of(name), await all_of(absent), strict=True):
            assert same_but_for_names(one, other, (f"{HIDDEN.key}-a", "absent-a"))
    assert await world.version("CarePlan", f"{HIDDEN.key}-a") == 1
    exists = {"if-none-exist": f"_id={HIDDEN.key}-a"}
    made = await world.ask(KEYWORKER, "POST", "CarePlan", plan(MINE), headers=exists)
    assert made.status_code == 201
    exists = {"if-none-exist": f"_id={MINE.key}-a"}
    found = await world.ask(KEYWORKER, "POST", "CarePlan", plan(MINE), headers=exists)
    assert found.status_code == 200


async def test_16_a_transaction_is_decided_entry_by_entry_and_lands_whole_or_not(
    world: World,
) -> None:
    create = {
        "resource": plan(MINE, title="of both"),
        "request": {"method": "POST", "url": "CarePlan"},
    }
    theirs = {"resource": plan(HIDDEN), "request": {"method": "POST", "url": "CarePlan"}}
    read = {"request": {"method": "GET", "url": hidden(A)}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [create, theirs]}
    assert (await world.ask(KEYWORKER, "POST", "", bundle)).status_code == 403
    assert await world.ids(KEYWORKER, "CarePlan?_content=both") == set()
    reading = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [read, {"request": {"method": "GET", "url": A}}],
    }
    told = (await world.ask(KEYWORKER, "POST", "", reading)).json()["entry"]
    assert [one["response"]["status"][:3] for one in told] == ["404", "200"]
    by_criteria = {**create, "resource": plan(MINE, basedOn=[ref(f"CarePlan?_id={HIDDEN.key}-a")])}
    looked = await world.ask(KEYWORKER, "POST", "", {**bundle, "entry": [by_criteria]})
    assert looked.status_code == 412
    twice = [
        {
            "resource": of(MINE, "CarePlan", "a"),
            "request": {"method": "PUT", "url": A, "ifMatch": 'W/"1"'},
        }
    ] * 2
    assert (await world.ask(KEYWORKER, "POST", "", {**bundle, "entry": twice})).status_code in (
        400,
        422,
    )
    right = await world.ask(KEYWORKER, "POST", "", {**bundle, "entry": [create]})
    assert right.status_code == 200, right.text


async def test_17_at_one_time_one_of_them_wins(world: World) -> None:
    exists = {"if-none-exist": "identifier=urn:race|1"}
    resource = plan(MINE, identifier=[{"system": "urn:race", "value": "1"}])
    made = await asyncio.gather(
        *(world.ask(KEYWORKER, "POST", "CarePlan", resource, headers=exists) for _ in range(8))
    )
    assert sorted(one.status_code for one in made) == [200] * 7 + [201]
    matched = {"if-match": 'W/"1"'}
    several = [moved(title=f"by {n}") for n in range(8)]
    told = await asyncio.gather(
        *(world.ask(KEYWORKER, "PUT", A, one, headers=matched) for one in several)
    )
    assert sorted(one.status_code for one in told) == [200] + [412] * 7


async def test_17_a_withdrawal_is_before_the_read_or_after_it(world: World) -> None:
    """Whoever reads beside a withdrawal sees nothing once it is answered."""
    await world.withdraw(MINE)
    told = await asyncio.gather(*(world.get(MEMBER, A) for _ in range(8)))
    assert {one.status_code for one in told} == {404}


@pytest.mark.parametrize("tag", ['W/"0"', 'W/"2"', "1", "W/1", '"x"', 'W/"0", W/"9"', "", "'1'"])
async def test_18_only_the_version_that_is_there_matches(world: World, tag: str) -> None:
    refused = await world.ask(KEYWORKER, "PUT", A, moved(title="x"), headers={"if-match": tag})
    assert refused.status_code in (400, 412), refused.text
    assert await world.version("CarePlan", f"{MINE.key}-a") == 1
    there = await world.ask(
        KEYWORKER,
        "PUT",
        hidden(A),
        {**plan(HIDDEN), "id": f"{HIDDEN.key}-a"},
        headers={"if-match": "*"},
    )
    absent = await world.ask(
        KEYWORKER,
        "PUT",
        "CarePlan/zz99-a",
        {**plan(HIDDEN), "id": "zz99-a"},
        headers={"if-match": "*"},
    )
    assert same_but_for_names(there, absent, (f"{HIDDEN.key}-a", "zz99-a"))
    assert there.status_code in (404, 412)
    right = await world.ask(KEYWORKER, "PUT", A, moved(title="x"), headers={"if-match": 'W/"1"'})
    assert right.status_code == 200
