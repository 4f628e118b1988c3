"""The people of a story: each asks the server by a token of their own, and does what they do there.

Whatever they do is a plain FHIR request. `Refused` is raised where the server refuses it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from fhir_server.events.asked import INBOX_SYSTEM
from fhir_server.fhir import canonicals
from tests.access.people import coded, ods, ref
from tests.authorisation.machines import Machine
from tests.events.receiving import BACKPORT, subscription, until
from tests.stories import papers
from tests.stories.clock import Clock
from tests.stories.papers import JSON, Child, code
from tests.support import assert_outcome, body, exact

EVERYTHING: Final = (
    *("Patient", "Flag", "CarePlan", "Goal", "Task", "EpisodeOfCare", "Encounter", "Consent"),
    *("CareTeam", "RelatedPerson", "Condition", "ServiceRequest", "QuestionnaireResponse"),
)
"""Types of what stands in a record."""

_INBOX: Final = {
    "url": f"{BACKPORT}/backport-channel-type",
    "valueCoding": {"system": INBOX_SYSTEM, "code": "inbox"},
}


class Refused(Exception):
    """The server's answer to what it does not do."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.status_code} {answer.text}")
        self.answer = answer


@contextmanager
def refused(status: int, *texts: str) -> Iterator[None]:
    """What is done within is refused so: each text is part of what the answer says."""
    with pytest.raises(Refused) as error:
        yield
    answer = error.value.answer
    code = {403: "forbidden", 404: "not-found", 422: "business-rule"}[status]
    for text in texts:
        assert_outcome(answer, status, code, text)
    assert answer.status_code == status, answer.text


@dataclass
class Person:
    """Somebody with a token: a professional, one of the family, or an organisation's system."""

    client: httpx.AsyncClient
    clock: Clock
    machine: Machine
    reference: str
    """Who they are; nothing for a system."""
    scopes: str
    _token: str = ""
    _good_until: datetime | None = field(default=None)

    # Asking ------------------------------------------------------------------------------------

    async def ask(self, method: str, address: str, resource: JSON | None = None) -> httpx.Response:
        """The answer, whatever it is."""
        given = {} if resource is None else body(resource)
        headers = {**given.pop("headers", {}), "authorization": f"Bearer {await self._bearer()}"}
        if method == "PUT" and resource is not None:
            headers["if-match"] = f'W/"{resource["meta"]["versionId"]}"'
        return await self.client.request(method, address, headers=headers, **given)

    async def _bearer(self) -> str:
        """A token that is good now: the old one, or another."""
        now = self.clock.now
        if self._good_until is None or now >= self._good_until:
            assertion = self.machine.assertion(exp=round(now.timestamp()) + 120)
            asked = {"client_assertion": assertion, "scope": self.scopes}
            self._token = await self.machine.token(self.client, **asked)
            self._good_until = now + timedelta(minutes=4)
        return self._token

    async def _done(self, method: str, address: str, resource: JSON | None = None) -> JSON:
        answer = await self.ask(method, address, resource)
        if answer.status_code >= 400:
            raise Refused(answer)
        found: JSON = exact(answer)
        return found

    async def gets(self, address: str) -> JSON:
        return await self._done("GET", address)

    async def writes(self, resource: JSON) -> JSON:
        """The resource as it is now: a new one, or another version of what is there."""
        if "id" in resource:
            return await self._done("PUT", f"{resource['resourceType']}/{resource['id']}", resource)
        return await self._done("POST", resource["resourceType"], resource)

    async def sends(self, bundle: JSON) -> JSON:
        """A transaction."""
        return await self._done("POST", "", bundle)

    async def tells(self, message: JSON, at: datetime | None = None) -> list[str]:
        """Of an event, as a hospital does; what the server says to it.

        Args:
            at: when it happened, where that is not now.
        """
        told = {**message, "timestamp": (at or self.clock.now).isoformat()}
        answer = await self._done("POST", "$process-message", told)
        return [issue["diagnostics"] for issue in answer["issue"]]

    async def operates(self, address: str, **given: Any) -> JSON:
        return await self._done("POST", address, papers.parameters(**given))

    # Doing -------------------------------------------------------------------------------------

    async def consents(self, child: Child, to: str, **elements: Any) -> JSON:
        """The young person for themselves, or a parent for them."""
        today = self.clock.now.date()
        return await self.writes(papers.consent(child, to, self.reference, today, **elements))

    async def records_consent(self, child: Child, to: str, giver: str, **elements: Any) -> JSON:
        """Of somebody else, with whom it was checked."""
        today = self.clock.now.date()
        checked = {
            "verified": True,
            "verifiedWith": ref(giver),
            "verificationDate": today.isoformat(),
        }
        told = {"verification": [checked], **elements}
        return await self.writes(papers.consent(child, to, giver, today, **told))

    async def refers(self, child: Child, reason: str) -> None:
        given = {"reason": reason, "host": ods(papers.SERVICE)}
        answer = await self.operates(f"{child.reference}/$refer", **given)
        (child.episode,) = [
            f"EpisodeOfCare/{one['resource']['id']}"
            for one in answer["parameter"]
            if one["name"] == "episode"
        ]

    async def moves(self, child: Child, to: str, reason: str = "") -> None:
        """The involvement to another state of the pathway."""
        given: dict[str, Any] = {"to": code(to)} | ({"reason": reason} if reason else {})
        await self.operates(f"{child.episode}/$transition", **given)

    async def allocates(self, child: Child, keyworker: "Person", reason: str = "") -> int:
        """How many involvements the keyworker has now."""
        given: dict[str, Any] = {"keyworker": ref(keyworker.reference)}
        given |= {"reason": reason} if reason else {}
        answer = await self.operates(f"{child.episode}/$allocate", **given)
        return int(papers.value(answer, "caseload"))

    async def completes(self, child: Child, code: str) -> None:
        """A task that stands."""
        (task,) = await self.tasks_of(child, code)
        done = {**task.get("executionPeriod", {}), "end": self.clock.now.isoformat()}
        await self.writes({**task, "status": "completed", "executionPeriod": done})

    async def dates(self, child: Child, code: str, start: str) -> None:
        """When what a task asks for is to take place."""
        (task,) = await self.tasks_of(child, code)
        await self.writes({**task, "executionPeriod": {"start": start}})

    async def visits(self, child: Child, where: str = "HH") -> JSON:
        """For an hour that is over now."""
        now = self.clock.now
        return await self.writes(papers.visit(child, where, now - timedelta(hours=1), now))

    async def rates(self, child: Child, colour: str, reason: str, **given: Any) -> JSON:
        told: dict[str, Any] = {"rating": code(colour), "reason": reason, **given}
        return await self.operates(f"{child.reference}/$set-rating", **told)

    async def gathers(self, child: Child, **members: "Person | str") -> None:
        """Into the care team, by their roles: `social_worker=...`."""
        (team,) = await self.sees("CareTeam", child)
        there = {code_of(one["role"][0]) for one in team["participant"]}
        joining = [
            _member(role.replace("_", "-"), member, self.clock.now)
            for role, member in members.items()
            if role.replace("_", "-") not in there
        ]
        await self.writes({**team, "participant": [*team["participant"], *joining]})

    async def withdraws(self, child: Child, about: str) -> None:
        """What they gave."""
        (given,) = [
            one
            for one in await self.consents_of(child, about)
            if one["status"] == "active" and one["performer"] == [ref(self.reference)]
        ]
        await self.writes(papers.no_longer(given))

    # Being told ----------------------------------------------------------------------------------

    async def asks_to_be_told(self, *topics: str, at: str = "") -> None:
        """At an address of theirs, or else in their inbox on the server."""
        for topic in topics:
            wanted = subscription(topic, at) if at else _for_the_inbox(topic)
            made = await self.writes(wanted)
            await until(lambda: self._is_active(made["id"]), what="active")  # noqa: B023 - at once

    async def _is_active(self, subscription_id: str) -> bool:
        found = await self.gets(f"Subscription/{subscription_id}")
        return bool(found["status"] == "active")

    async def is_told_of(self, child: Child, topic: str, about: str = "") -> None:
        """In the inbox there is that; where the code of a task is given, about that task."""

        tasks = await self.sees("Task", child)
        named = [ref(f"Task/{one['id']}") for one in tasks if code_of(one["code"]) == about]

        async def has_come() -> bool:
            told = [one for one in await self.inbox(child) if code_of(one["topic"]) == topic]
            return any(not about or one["about"][0] in named for one in told)

        await until(has_come, what=f"{topic} {about}")

    async def inbox(self, child: Child) -> list[JSON]:
        """What they were told of the young person."""
        found = await self.gets(f"Communication?recipient={self.reference}&_count=100")
        inbox = [one["resource"] for one in found.get("entry", ())]
        return [one for one in inbox if one["subject"] == ref(child.reference)]

    # Seeing ------------------------------------------------------------------------------------

    async def sees(self, kind: str, child: Child, only: str = "") -> list[JSON]:
        """What of a type about the young person they find; `only` is more of the search."""
        about = f"_id={child.id}" if kind == "Patient" else f"patient={child.reference}"
        bundle = await self.gets(f"{kind}?{about}&_count=100{only}")
        return [entry["resource"] for entry in bundle.get("entry", ())]

    async def knows(self, child: Child) -> set[str]:
        """The types of which they find something about the young person, by whatever route."""
        found = {kind for kind in EVERYTHING if await self.sees(kind, child)}
        whole = await self.ask("GET", f"{child.reference}/$everything?_count=200")
        entries = whole.json().get("entry", ()) if whole.status_code == 200 else ()
        found |= {one["resource"]["resourceType"] for one in entries} & {*EVERYTHING}
        read = await self.ask("GET", child.reference)
        return found | ({"Patient"} if read.status_code == 200 else set())

    async def finds_something(self, address: str) -> bool:
        """Whether there is something, or at least one entry."""
        answer = await self.ask("GET", address)
        assert answer.status_code in (200, 404), answer.text
        found = answer.json()
        is_list = found["resourceType"] == "Bundle" and found["type"] in ("searchset", "history")
        return answer.status_code == 200 and (not is_list or bool(found.get("entry")))

    async def rating_of(self, child: Child) -> str:
        """The colour; nothing where they see none."""
        flags = [one for one in await self.sees("Flag", child) if one["status"] == "active"]
        assert len(flags) <= 1, "There is at most one active rating"
        return code_of(flags[0]["code"]) if flags else ""

    async def state_of(self, child: Child) -> str:
        """Of the newest involvement."""
        involvement = await self.gets(child.episode)
        (state,) = [one["valueCode"] for one in involvement["extension"] if "valueCode" in one]
        return str(state)

    async def plans_of(self, child: Child) -> dict[str, str]:
        """The status of each plan, by what it is for."""
        plans = await self.sees("CarePlan", child)
        return {code_of(one["category"][0]): one["status"] for one in plans}

    async def plan_of(self, child: Child, category: str) -> JSON:
        """The newest plan of that kind."""
        plans = await self.sees("CarePlan", child)
        fitting = [one for one in plans if code_of(one["category"][0]) == category]
        return max(fitting, key=lambda one: str(one["period"]["start"]))

    async def consents_of(self, child: Child, about: str) -> list[JSON]:
        found = await self.sees("Consent", child)
        return [one for one in found if about in map(code_of, one["category"])]

    async def to_do(self, child: Child) -> dict[str, str]:
        """When each task that stands is due, by its code: `2026-03-09`, or with a time."""
        tasks = [one for one in await self.sees("Task", child) if one["status"] == "requested"]
        return {code_of(one["code"]): _due(one["restriction"]["period"]["end"]) for one in tasks}

    async def tasks_of(self, child: Child, code: str) -> list[JSON]:
        """Those of the code that stand."""
        return [
            one
            for one in await self.sees("Task", child)
            if code_of(one["code"]) == code and one["status"] == "requested"
        ]

    async def done(self, child: Child, *codes: str) -> dict[str, str]:
        """What has become of the tasks of these codes that stand no more."""
        tasks = await self.sees("Task", child)
        over = {code_of(one["code"]): one for one in tasks if one["status"] != "requested"}
        return {code: over[code]["status"] for code in codes if code in over}

    async def has_to_ask_about(self, child: Child, code: str) -> list[JSON]:
        """Escalations that are theirs, of a task that was due."""
        tasks = await self.sees("Task", child)
        late = [f"Task/{one['id']}" for one in tasks if code_of(one["code"]) == code]
        return [
            one
            for one in tasks
            if code_of(one["code"]) == "escalation"
            and one["status"] == "requested"
            and one["owner"] == ref(self.reference)
            and one["focus"]["reference"] in late
        ]


def _for_the_inbox(topic: str) -> JSON:
    return subscription(topic, content="", type="message", _type={"extension": [_INBOX]})


def _due(end: str) -> str:
    """Of a moment, the day and the minute."""
    return end[:16].replace("T", " ")


def _member(role: str, member: "Person | str", since: datetime) -> JSON:
    who = member if isinstance(member, str) else member.reference
    return {
        "role": [coded(canonicals.CARE_TEAM_ROLE, role)],
        "member": ref(who),
        "period": {"start": since.date().isoformat()},
    }


def code_of(concept: JSON) -> str:
    """The code of the first coding."""
    return str(concept["coding"][0]["code"])
