"""Classes 26 to 32: tokens, failures, broken glass, the audit, what is sent later, page tokens."""

import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import Any, Final

import pytest

from fhir_server.access import decisions
from tests.access import issuing
from tests.access.cast import Cast
from tests.access.served import REASON
from tests.attacks.conftest import (
    AUDITOR,
    HIDDEN,
    KEYWORKER,
    KIND,
    MEMBER,
    MINE,
    STRANGER,
    World,
    hidden,
    of,
)
from tests.attacks.test_reading import next_page
from tests.jobs import finished

A: Final = f"CarePlan/{MINE.key}-a"
GLASS: Final = replace(KIND["breaker of glass"], breaks=())


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    told = {"exp": now + 300, "iat": now, "nbf": now, "fhirUser": KEYWORKER.user}
    return {**told, "ods_code": KEYWORKER.organisation, **changed}


def forged(signer: issuing.Signer | None = None, **header: str) -> str:
    """Right but for its header, or for who signs it."""
    told = {"typ": "JWT", "alg": "RS256", "kid": "rsa-1", **header}
    return issuing.raw_token(told, issuing.claims(**claims()), signer)


async def status(world: World, token: str, address: str = A) -> int:
    return (await world.get(None, address, authorization=f"Bearer {token}")).status_code


async def test_26_only_a_good_token_is_taken(world: World) -> None:
    good = issuing.token(**claims())
    assert await status(world, good) == 200
    assert await status(world, forged()) == 200
    header, told, signature = good.split(".")
    now = int(time.time())
    public = issuing.rsa_signer().public_pem
    for wrong in (
        forged(alg="none"),
        forged(alg="None"),
        f"{header}.{told}.",
        f"{header}.{told}.{signature[:-4]}AAAA",
        forged(kid=""),
        forged(kid="unknown"),
        forged(issuing.rsa_signer("other")),
        forged(typ="id_token"),
        _hmac({"typ": "JWT", "alg": "HS256", "kid": "rsa-1"}, issuing.claims(**claims()), public),
        issuing.token(**claims(aud="https://another.example/fhir")),
        issuing.token(**claims(aud=...)),
        issuing.token(**claims(iss="https://another.example")),
        issuing.token(**claims(exp=now - 400)),
        issuing.token(**claims(exp=...)),
        issuing.token(**claims(nbf=now + 400)),
        issuing.token(**claims(client_id=..., sub=...)),
    ):
        assert await status(world, wrong) == 401, wrong[:80]


def _hmac(header: dict[str, str], told: dict[str, Any], key: bytes) -> str:
    parts = [issuing.base64url(json.dumps(one).encode()) for one in (header, told)]
    signing = ".".join(parts)
    signature = hmac.new(key, signing.encode(), hashlib.sha256).digest()
    return f"{signing}.{issuing.base64url(signature)}"


@pytest.mark.parametrize(
    ("scope", "let_in"),
    [
        *(("user/CarePlan.rs", True), ("user/CarePlan.read", True), ("user/*.r", True)),
        *(("user/CarePlan.s", False), ("user/Flag.rs", False), ("patient/CarePlan.rs", False)),
        *(("user/CarePlan.rs?category=none", False), ("user/CarePlan", False), ("", False)),
        *(("USER/CarePlan.rs", False), ("user/Care*.rs", False), ("user/CarePlan.rsx", False)),
    ],
)
async def test_26_scopes_give_what_they_say(world: World, scope: str, let_in: bool) -> None:
    assert (await status(world, issuing.token(**claims(scope=scope))) == 200) == let_in


async def test_27_whatever_fails_in_deciding_denies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await world.get(KEYWORKER, A)).status_code == 200

    def fails(*_: object) -> None:
        raise LookupError("something is wrong")

    monkeypatch.setattr(decisions, "decide", fails)
    monkeypatch.setattr(decisions, "explained", fails)
    team = of(MINE, "CareTeam", "t")
    joined = {"role": [{"text": "new"}], "member": {"reference": "Practitioner/new"}}
    # What was decided by the same facts stands.
    await world.store({**team, "participant": [*team["participant"], joined]})
    for address in (A, f"Patient/{MINE.key}/$everything", f"{A}/_history"):
        assert (await world.get(KEYWORKER, address)).status_code == 404, address
    assert await world.ids(KEYWORKER, "CarePlan") == set()
    assert (await world.get(KEYWORKER, "CarePlan?_summary=count")).json()["total"] == 0
    assert await world.ids(KEYWORKER, "Organization")


async def test_27_nothing_at_all_is_not_everything(world: World) -> None:
    """No user, no organisation, no patients of theirs: nothing is found, rather than all."""
    for who in (
        Cast("nobody"),
        replace(STRANGER, organisation=""),
        Cast("in launch", patient="zz"),
    ):
        for name in ("Patient", "CarePlan", "Flag", "Task"):
            assert await world.ids(who, name) == set()
    for user in ("Patient/", "Practitioner", "RelatedPerson/../x", "Group/1"):
        sent = issuing.token(**claims(fhirUser=user))
        assert await status(world, sent) in (401, 404)


def _told(reason: str) -> dict[str, Any]:
    parameter = {"name": "reason", "valueString": reason}
    return {"resourceType": "Parameters", "parameter": [parameter]}


async def test_28_glass_is_broken_for_a_reason_and_a_record_and_told_of(world: World) -> None:
    address, operation = hidden(A), f"Patient/{HIDDEN.key}/$break-glass"
    for name in ("x-break-glass", "break-glass", "x-reason"):
        assert (await world.get(GLASS, address, **{name: REASON})).status_code == 404
    for reason in ("", "   ", "short", "x" * 501):
        refused = await world.ask(GLASS, "POST", operation, _told(reason))
        assert refused.status_code in (400, 422), reason
    for who in (Cast("system", "", "G11"), KIND["commissioner"], KIND["load test"], AUDITOR):
        refused = await world.ask(who, "POST", operation, _told(REASON))
        assert refused.status_code == 403, who.kind
    assert (await world.get(GLASS, address)).status_code == 404
    broken = await world.ask(GLASS, "POST", operation, _told(REASON))
    assert broken.status_code == 200, broken.text
    assert (await world.get(GLASS, address)).status_code == 200
    assert (await world.get(GLASS, A)).status_code == 404
    assert (await world.get(STRANGER, address)).status_code == 404
    write = await world.ask(GLASS, "DELETE", address, headers={"if-match": 'W/"1"'})
    assert write.status_code == 403
    (task,) = [one for one in broken.json()["parameter"] if one["name"] == "task"]
    there = await world.app.state.store.read("Task", task["valueReference"]["reference"][5:])
    assert REASON.encode() in there.body
    assert b"Practitioner/kw" in there.body


async def audited(world: World, query: str) -> list[dict[str, Any]]:
    await world.app.state.trail.flushed()
    found = await world.get(AUDITOR, f"AuditEvent?{query}&_count=500")
    assert found.status_code == 200, found.text
    return [one["resource"] for one in found.json().get("entry", ())]


async def test_29_what_is_allowed_and_denied_is_audited_beyond_reach(world: World) -> None:
    await world.get(MEMBER, A)
    await world.get(MEMBER, hidden(A))
    await world.get(MEMBER, "CarePlan?title=a%0Ab%22%2C%22outcome%22%3A%220")
    rows = await audited(world, "_sort=date")
    asked = {str(one["entity"]): one["outcome"] for one in rows}
    assert any(f"GET /{A}" in one and outcome == "0" for one, outcome in asked.items())
    assert any(f"GET /{hidden(A)}" in one and outcome == "4" for one, outcome in asked.items())
    assert all("\n" not in one for one in asked)
    first = rows[0]["id"]
    for who in (MEMBER, KEYWORKER, KIND["administrator"], STRANGER, KIND["load test"]):
        assert (await world.get(who, f"AuditEvent/{first}")).status_code in (403, 404), who.kind
        assert (await world.get(who, "AuditEvent")).status_code == 403, who.kind
    full = replace(AUDITOR, scopes="system/*.cruds")
    for who in (MEMBER, full):
        event = {**rows[0], "outcome": "8"}
        for method, address in (
            *(("PUT", f"AuditEvent/{first}"), ("DELETE", f"AuditEvent/{first}")),
            *(("POST", "AuditEvent"), ("DELETE", "AuditEvent?_id=1")),
        ):
            sent = None if method == "DELETE" else event
            refused = await world.ask(who, method, address, sent)
            assert refused.status_code in (403, 404, 405, 422), (method, address, refused.text)
    again = await audited(world, "_sort=date")
    assert again[: len(rows)] == rows


async def test_30_what_comes_later_is_decided_when_it_is_given(world: World) -> None:
    """Of notices, tests/events/test_access.py says it: here they go nowhere that is not set."""
    subscription = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "to be told",
        "criteria": "Patient?active=true",
        "channel": {"type": "rest-hook", "endpoint": "https://127.0.0.1/hook"},
    }
    refused = await world.ask(KEYWORKER, "POST", "Subscription", subscription)
    assert refused.status_code == 403, refused.text
    sent = await world.get(MEMBER, "CarePlan?_count=50", prefer="respond-async")
    assert sent.status_code == 202
    address = sent.headers["content-location"]
    world.client.headers.update(MEMBER.headers())
    done = await finished(world.client, address)
    assert f"x{MINE.key[1:]}careplana" in done.text
    assert (await world.get(STRANGER, address)).status_code == 404
    await world.withdraw(MINE)
    later = await world.get(MEMBER, address)
    assert f"x{MINE.key[1:]}careplan" not in later.text


async def test_31_what_is_kept_for_one_caller_is_never_anothers(world: World) -> None:
    """Names that begin alike, or have what parts names, are names of different callers."""
    sent = await world.get(KEYWORKER, "Patient/$export", prefer="respond-async")
    job = sent.headers["content-location"]
    for changed in (
        *({"client_id": "keyworker/"}, {"client_id": "keyworke"}, {"client_id": "keyworker%2F"}),
        *({"sub": ""}, {"client_id": "keyworker", "fhirUser": "Practitioner/kw2"}),
    ):
        found = issuing.token(**claims(**{"client_id": "keyworker", **changed}))
        assert await status(world, found, job) in (401, 404), changed
    assert (await world.get(KEYWORKER, job)).status_code in (200, 202)
    task = {**of(HIDDEN, "Task", "k"), "id": f"{MINE.key}-a"}
    await world.store(task)
    assert (await world.get(KEYWORKER, f"Task/{MINE.key}-a")).status_code == 404
    assert (await world.get(KEYWORKER, A)).status_code == 200


async def test_32_page_tokens_are_whole_or_refused(world: World) -> None:
    first = await world.get(KEYWORKER, "CarePlan?_count=1")
    link = next_page(first.json())
    start, _, token = link.partition("page=")
    place = len(token) // 2
    flipped = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
    for wrong in (flipped, token[:-6], token + "AAAA", "", "AAAA", "%00", "..", token[::-1]):
        refused = await world.get(KEYWORKER, f"{start}page={wrong}")
        assert refused.status_code == 400, wrong
        assert refused.json()["resourceType"] == "OperationOutcome"
    other = await world.get(KEYWORKER, link.replace("/CarePlan?", "/Flag?"))
    assert other.status_code == 400
    assert (await world.get(KEYWORKER, link)).status_code == 200
