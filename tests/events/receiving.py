"""A real receiver of notices on loopback, and subscriptions to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import uvicorn

from fhir_server.fhir import canonicals, json
from tests.support import create, free_port

BACKPORT: Final = f"{canonicals.BACKPORT}/StructureDefinition"
TOPICS: Final = f"{canonicals.KW}/SubscriptionTopic"
QUICK: Final[dict[str, Any]] = {
    "notice_every": 0.02,
    "notice_retry_first": 0.05,
    "notice_retry_longest": 0.1,
    "notice_patience": 20.0,
    "notice_lease": 1.0,
}
"""Settings with which a test need not wait, and a slow machine sends nothing twice."""


@dataclass
class Got:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.decode(self.content)

    @property
    def bundle(self) -> dict[str, Any]:
        return json.decode_resource(self.content)

    @property
    def status(self) -> dict[str, Any]:
        """The first entry's parameters by name; events in a list."""
        told: dict[str, Any] = {"events": []}
        for one in json.decode(self.content)["entry"][0]["resource"]["parameter"]:
            if one["name"] == "notification-event":
                told["events"].append(one["part"])
            else:
                told[one["name"]] = next(v for k, v in one.items() if k.startswith("value"))
        return told

    @property
    def kind(self) -> str:
        return str(self.status["type"])

    @property
    def numbers(self) -> list[int]:
        return [int(event[0]["valueString"]) for event in self.status["events"]]

    @property
    def focuses(self) -> list[str]:
        return [
            part["valueReference"]["reference"]
            for event in self.status["events"]
            for part in event
            if part["name"] == "focus"
        ]

    @property
    def resources(self) -> list[dict[str, Any]]:
        entries = json.decode(self.content)["entry"][1:]
        return [entry["resource"] for entry in entries if "resource" in entry]


@dataclass
class Receiver:
    """Answers with `status`, after `pause` seconds and while `opened`."""

    port: int
    got: list[Got] = field(default_factory=list)
    status: int = 200
    pause: float = 0.0
    refused: list[Got] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def events(self) -> list[Got]:
        """Notices of events among what was taken."""
        return [one for one in self.got if one.content and one.kind == "event-notification"]

    @property
    def numbers(self) -> list[int]:
        return [number for one in self.events for number in one.numbers]

    @property
    def focuses(self) -> list[str]:
        return [focus for one in self.events for focus in one.focuses]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        got = Got(scope["method"], scope["path"], headers, content)
        await asyncio.sleep(self.pause)
        await self.opened.wait()
        (self.got if self.status < 300 else self.refused).append(got)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Quiet(uvicorn.Server):
    """In the loop of a test, which has the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver(port or free_port())
    config = uvicorn.Config(
        receiver, port=receiver.port, log_level="critical", lifespan="off", ws="none"
    )
    server = Quiet(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield receiver
    finally:
        server.should_exit = True
        await task


async def until(
    holds: Callable[[], Any | Awaitable[Any]], seconds: float = 60.0, what: str = ""
) -> Any:
    """What `holds` says, once that is true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = holds()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert loop.time() < deadline, f"It did not come: {what}"
        await asyncio.sleep(0.02)


def subscription(
    criteria: str, endpoint: str = "", content: str = "id-only", **channel: Any
) -> dict[str, Any]:
    """A Subscription to a topic by its code, or by criteria."""
    topic = criteria if "?" in criteria else f"{TOPICS}/{criteria}"
    told: dict[str, Any] = {"type": "rest-hook", "payload": "application/fhir+json", **channel}
    if endpoint:
        told["endpoint"] = endpoint
    if content:
        extension = {"url": f"{BACKPORT}/backport-payload-content", "valueCode": content}
        told["_payload"] = {"extension": [extension]}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "To be told",
        "criteria": topic,
        "channel": told,
    }


def narrowed(subscription: dict[str, Any], *filters: str) -> dict[str, Any]:
    extensions = [
        {"url": f"{BACKPORT}/backport-filter-criteria", "valueString": one} for one in filters
    ]
    return {**subscription, "_criteria": {"extension": extensions}}


async def subscribed(client: httpx.AsyncClient, wanted: dict[str, Any]) -> str:
    """The id of a subscription that is active."""
    made = await create(client, wanted)
    await until(lambda: has_status(client, made["id"], "active"), what="active")
    return str(made["id"])


async def has_status(client: httpx.AsyncClient, subscription_id: str, status: str) -> bool:
    response = await client.get(f"Subscription/{subscription_id}")
    return bool(response.json()["status"] == status)


def patient(number: int = 1) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": f"p{number}", "birthDate": "2010-05-14"}


def stay(status: str, number: int = 1) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": f"stay{number}",
        "status": status,
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": {"reference": f"Patient/p{number}"},
    }


def rating(colour: str, flag_id: str = "flag", number: int = 1, status: str = "active") -> Any:
    return {
        "resourceType": "Flag",
        "id": flag_id,
        "status": status,
        "category": [
            {"coding": [{"system": canonicals.FLAG_CATEGORY, "code": "dsr-admission-risk"}]}
        ],
        "code": {"coding": [{"system": canonicals.DSR_RATING, "code": colour}]},
        "subject": {"reference": f"Patient/p{number}"},
        "period": {"start": "2026-11-01"},
    }
