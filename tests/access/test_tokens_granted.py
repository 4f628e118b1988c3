"""Scopes hold on every way in: each route, entries of bundles, operations and jobs.

The policy is that of the scopes alone: what is refused here, no consent can give.
"""

from typing import Any, Final

import httpx
import pytest

from fhir_server.interactions.table import ROUTER
from fhir_server.operation.registry import load
from tests.access.tokened import BASIC, INSUFFICIENT, app, bearing, client, settings
from tests.jobs import finished
from tests.support import FHIR_JSON, assert_outcome, outcome_issues

__all__ = ["app", "client", "settings"]

GRANTED: Final[list[tuple[str, str, Any, str]]] = [
    ("GET", "Patient/p1", None, "system/Patient.r"),
    ("GET", "Patient/p1/_history/1", None, "system/Patient.r"),
    ("GET", "Patient/p1/_history", None, "system/Patient.r"),
    ("GET", "Patient/_history", None, "system/Patient.rs"),
    ("GET", "_history", None, "system/*.rs"),
    ("GET", "Patient?_id=p1", None, "system/Patient.s"),
    ("POST", "Patient/_search", {"_id": "p1"}, "system/Patient.s"),
    ("GET", "Patient/p1/CarePlan", None, "system/CarePlan.s"),
    ("GET", "Patient/p1/*?_type=CarePlan,Goal", None, "system/CarePlan.s system/Goal.s"),
    ("GET", "Patient/p1/*", None, "system/*.s"),
    ("GET", "?_type=Patient", None, "system/Patient.s"),
    ("GET", "?_id=p1", None, "system/*.s"),
    ("POST", "_search", {"_type": "Patient"}, "system/Patient.s"),
    ("POST", "_search", {"_id": "p1"}, "system/*.s"),
    ("POST", "Basic", BASIC, "system/Basic.c"),
    ("PUT", "Basic/b2", BASIC | {"id": "b2"}, "system/Basic.u"),
    ("PUT", "Basic?_id=b1", BASIC, "system/Basic.us"),
    ("PATCH", "Basic/b1", [], "system/Basic.ru"),
    ("PATCH", "Basic?_id=b1", [], "system/Basic.rus"),
    ("DELETE", "Basic/b1", None, "system/Basic.d"),
    ("DELETE", "Basic?_id=b1", None, "system/Basic.ds"),
    ("GET", "Patient/p1/$everything", None, "system/Patient.rs"),
    ("GET", "Patient/$everything", None, "system/Patient.rs"),
    ("GET", "Patient/p1/$meta", None, "system/Patient.rs"),
    ("GET", "$meta", None, "system/*.rs"),
    ("POST", "Basic/b1/$meta-add", {"tag": True}, "system/Basic.ru"),
    ("GET", "$export", None, "system/*.rs"),
    ("GET", "$export?_type=Patient,Basic", None, "system/Patient.rs system/Basic.rs"),
    ("GET", "Patient/$export?_type=CarePlan", None, "system/Patient.rs system/CarePlan.rs"),
    ("GET", "CodeSystem/$lookup?system=x&code=y", None, "system/CodeSystem.rs"),
]
"""Method, address, body and the least scopes that are enough."""


async def ask(
    client: httpx.AsyncClient, method: str, address: str, sent: Any, scopes: str, **told: Any
) -> httpx.Response:
    headers = bearing(scopes, **told)
    if "$export" in address:
        headers["prefer"] = "respond-async"
    if "_search" in address:
        return await client.request(method, address, data=sent, headers=headers)
    if method == "PATCH":
        headers["content-type"] = "application/json-patch+json"
    elif sent is not None:
        headers |= FHIR_JSON
    if isinstance(sent, dict) and "tag" in sent:
        tags = {"tag": [{"system": "http://t", "code": "x"}]}
        sent = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": tags}]}
    return await client.request(method, address, json=sent, headers=headers)


def _named(case: tuple[str, str, Any, str]) -> str:
    return f"{case[0]} {case[1]}"


@pytest.mark.parametrize("case", GRANTED, ids=_named)
async def test_class_26_the_least_scopes_are_enough_and_no_letter_less(
    client: httpx.AsyncClient, case: tuple[str, str, Any, str]
) -> None:
    method, address, sent, scopes = case
    for fewer in _with_a_letter_less(scopes):
        found = await ask(client, method, address, sent, fewer)
        assert_outcome(found, 403, "forbidden", "scopes of the token do not grant")
        assert found.headers["www-authenticate"] == INSUFFICIENT
    enough = await ask(client, method, address, sent, scopes)
    assert enough.status_code != 403 or "scopes" not in enough.text, enough.text
    assert enough.status_code != 401


def _with_a_letter_less(scopes: str) -> list[str]:
    """The scopes in all ways with one letter less, and with another type or none."""
    all_of_them = scopes.split(" ")
    found = ["", "system/Slot.cruds", "patient/*.cruds", "user/*.cruds"]
    for place, scope in enumerate(all_of_them):
        head, _, letters = scope.partition(".")
        for letter in letters:
            rest = "".join(one for one in "cruds" if one != letter)
            changed = f"{head}.{rest}"
            found.append(" ".join([*all_of_them[:place], changed, *all_of_them[place + 1 :]]))
    return found


async def test_an_interaction_that_was_added_is_among_those_that_are_tried() -> None:
    """A route that nobody gave a letter needs all of them."""
    from fhir_server.interactions.permission import _A_TOKEN_ALONE, _LETTERS

    codes = {route.interaction.code for route in ROUTER.routes}
    assert codes == {*_LETTERS, *_A_TOKEN_ALONE, "operation"}


async def test_if_none_exist_needs_search_as_it_tells_what_is_there(
    client: httpx.AsyncClient,
) -> None:
    headers = {**FHIR_JSON, "if-none-exist": "_id=b1"}
    refused = await client.post("Basic", json=BASIC, headers=headers | bearing("system/Basic.c"))
    assert_outcome(refused, 403, "forbidden", "Basic.s")
    found = await client.post("Basic", json=BASIC, headers=headers | bearing("system/Basic.cs"))
    assert found.status_code != 403


@pytest.mark.parametrize("scopes", ["patient/*.cruds", "patient/Patient.rs"])
async def test_class_26_launch_scopes_without_a_patient_grant_nothing(
    client: httpx.AsyncClient, scopes: str
) -> None:
    for address in ("Patient/p1", "Patient", "Patient/p1/$everything"):
        found = await client.get(address, headers=bearing(scopes))
        assert_outcome(found, 403, "forbidden", "do not grant")
    named = bearing(scopes, patient="p1")
    assert (await client.get("Patient/p1", headers=named)).status_code == 200
    another = bearing(scopes, patient="p2")
    assert (await client.get("Patient/p1", headers=another)).status_code == 404


async def test_scopes_with_criteria_narrow_what_is_found(client: httpx.AsyncClient) -> None:
    for criteria, found in (("gender=female", 200), ("gender=male", 404)):
        headers = bearing(f"system/Patient.rs?{criteria}")
        assert (await client.get("Patient/p1", headers=headers)).status_code == found
        total = (await client.get("Patient?_total=accurate", headers=headers)).json()["total"]
        assert total == (1 if found == 200 else 0)


def bundle(kind: str, *entries: tuple[str, str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {
                "request": {"method": method, "url": url},
                **({} if resource is None else {"resource": resource}),
            }
            for method, url, resource in entries
        ],
    }


async def test_class_16_entries_of_a_batch_are_granted_one_by_one(
    client: httpx.AsyncClient,
) -> None:
    sent = bundle(
        "batch",
        ("GET", "Patient/p1", None),
        ("GET", "Patient", None),
        ("POST", "Basic", BASIC),
        ("GET", "Basic/b1", None),
        ("DELETE", "Basic/b1", None),
        ("GET", "Patient/p1/$everything", None),
        ("POST", "$process-message", None),
    )
    headers = {**FHIR_JSON, **bearing("system/Patient.r system/Basic.c")}
    found = await client.post("", json=sent, headers=headers)
    statuses = [one["response"]["status"][:3] for one in found.json()["entry"]]
    assert statuses == ["200", "403", "201", "403", "403", "403", "403"]
    accepted = await client.post("", json=sent, headers={**headers, "prefer": "respond-async"})
    async with _as(client, "system/Slot.c") as same:
        done = await finished(same, accepted.headers["content-location"])
    statuses = [one["response"]["status"][:3] for one in done.json()["entry"]]
    assert statuses == ["200", "403", "201", "403", "403", "403", "403"]


def _as(client: httpx.AsyncClient, scopes: str, **told: Any) -> httpx.AsyncClient:
    """The same server, whose client always shows that token."""
    return httpx.AsyncClient(
        transport=client._transport, base_url=client.base_url, headers=bearing(scopes, **told)
    )


async def test_class_16_a_transaction_is_refused_for_each_entry_that_is_not_granted(
    client: httpx.AsyncClient,
) -> None:
    sent = bundle(
        "transaction",
        ("POST", "Basic", BASIC),
        ("GET", "Patient?gender=female", None),
        ("DELETE", "Basic/b1", None),
    )
    headers = {**FHIR_JSON, **bearing("system/Basic.c")}
    found = await client.post("", json=sent, headers=headers)
    assert_outcome(found, 403, "forbidden", "Patient.s", "Bundle.entry[1]")
    assert_outcome(found, 403, "forbidden", "Basic.d", "Bundle.entry[2]")
    assert len(outcome_issues(found)) == 2
    assert found.headers["www-authenticate"] == INSUFFICIENT
    kept = await client.get("Basic?_summary=count", headers=bearing("system/Basic.s"))
    assert kept.json()["total"] == 1


async def test_class_16_a_reference_by_criteria_needs_search_as_it_tells_what_is_there(
    client: httpx.AsyncClient,
) -> None:
    about = {**BASIC, "subject": {"reference": "Patient?_id=p1"}}
    sent = bundle("transaction", ("POST", "Basic", about))
    headers = {**FHIR_JSON, **bearing("system/Basic.c system/Patient.r")}
    refused = await client.post("", json=sent, headers=headers)
    assert_outcome(refused, 403, "forbidden", "Patient.s", "Bundle.entry[0]")
    headers = {**FHIR_JSON, **bearing("system/Basic.c system/Patient.s")}
    assert (await client.post("", json=sent, headers=headers)).status_code == 200


def test_an_operation_that_writes_needs_no_less_than_it_declares() -> None:
    declared = {
        operation.code: operation.scopes
        for operation in load(("operations", "fhir_operations"))
        if operation.affects_state
    }
    stay_told = (("MessageHeader", "c"), ("Encounter", "cu"))
    rates = (("Patient", "r"), ("Flag", "cu"))
    moves = (("EpisodeOfCare", "ru"),)
    assert declared == {
        "admission-risk": (("Patient", "rs"),),
        "allocate": moves,
        "break-glass": (("Patient", "r"),),
        "close": (*moves, ("Task", "rus"), ("Goal", "rus")),
        "closure": (("ConceptMap", "rs"),),
        "confirm-discharge": (("CarePlan", "ru"), ("Patient", "r")),
        "discharge-plan": (("Patient", "rs"),),
        "get-ws-binding-token": (("Subscription", "r"),),
        "import": (("*", "cu"),),
        "meta-add": (("{type}", "ru"),),
        "meta-delete": (("{type}", "ru"),),
        "process-adt": stay_told,
        "process-message": stay_told,
        "refer": (("Patient", "r"), ("ServiceRequest", "c"), ("EpisodeOfCare", "c")),
        "remove-rating": rates,
        "resume": (("Subscription", "u"),),
        "set-rating": rates,
        "step-down": moves,
        "transition": moves,
        "withdraw": (("Consent", "u"),),
    }


# Jobs


async def test_class_6_a_job_is_its_callers_own_and_runs_with_what_they_may(
    client: httpx.AsyncClient,
) -> None:
    async with _as(client, "system/Patient.rs") as one:
        accepted = await one.get("Patient?_id=p1", headers={"prefer": "respond-async"})
        address = accepted.headers["content-location"]
        done = await finished(one, address)
        answered = done.json()["entry"][0]["resource"]
        assert [entry["resource"]["id"] for entry in answered["entry"]] == ["p1"]
    others = [
        {"client_id": "another"},
        {"sub": "another"},
        {"fhirUser": "Practitioner/another"},
    ]
    for told in others:
        async with _as(client, "system/*.cruds", **told) as other:
            assert_outcome(await other.get(address), 404, "not-found", "no such job")
            assert (await other.delete(address)).status_code == 404
    assert (await client.get(address)).status_code == 401


async def test_class_6_what_a_job_found_is_shown_as_far_as_the_token_of_now_grants(
    client: httpx.AsyncClient,
) -> None:
    async with _as(client, "system/Patient.rs") as one:
        accepted = await one.get("Patient/$export", headers={"prefer": "respond-async"})
    assert accepted.status_code == 403
    async with _as(client, "system/*.rs") as one:
        accepted = await one.get("Patient/$export", headers={"prefer": "respond-async"})
        manifest = (await finished(one, accepted.headers["content-location"])).json()
        assert manifest["requiresAccessToken"] is True
        (file,) = (told["url"] for told in manifest["output"] if told["type"] == "Patient")
        assert '"id":"p1"' in (await one.get(file)).text
    async with _as(client, "system/Basic.rs") as narrower:
        assert (await narrower.get(file)).text == ""
    assert (await client.get(file)).status_code == 401


async def test_class_6_links_to_pages_are_their_callers_own(client: httpx.AsyncClient) -> None:
    for number in range(3):
        headers = {**FHIR_JSON, **bearing()}
        await client.put(f"Basic/n{number}", json=BASIC | {"id": f"n{number}"}, headers=headers)
    first = await client.get("Basic?_count=1", headers=bearing())
    (following,) = (one["url"] for one in first.json()["link"] if one["relation"] == "next")
    assert (await client.get(following, headers=bearing())).status_code == 200
    other = await client.get(following, headers=bearing(client_id="another"))
    assert other.status_code in (400, 404, 410)
    assert (await client.get(following)).status_code == 401
    fewer = await client.get(following, headers=bearing("system/Patient.s"))
    assert_outcome(fewer, 403, "forbidden", "Basic.s")
