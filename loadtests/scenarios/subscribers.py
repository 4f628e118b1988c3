"""Subscribers, of whom some are slow and some dead, and who ask how their subscriptions are."""

from typing import Any, Final

from loadtests.scenarios.acting import Actor, Answer, Check, Pool, Scenario, Wrong

_EXTENSION: Final = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
_TOPICS: Final = ("admitted", "discharged", "rating-changed", "plan-changed")


def play(actor: Actor) -> None:
    if "subscribed" not in actor.pools:
        actor.pools["subscribed"] = Pool([])
        for receiver, address in actor.receivers.items():
            _subscribe(actor, receiver, address)
    path = "Subscription/$status"
    actor.ask("subscriptions: status", "GET", path, check=_tells_of(len(actor.receivers)))


def _subscribe(actor: Actor, receiver: str, address: str) -> None:
    topic = f"https://keyworking.example/fhir/SubscriptionTopic/{actor.chance.choice(_TOPICS)}"
    asked = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": f"A load test with a receiver that is {receiver}",
        "criteria": topic,
        "channel": {
            "type": "rest-hook",
            "endpoint": address,
            "payload": "application/fhir+json",
            "_payload": {
                "extension": [
                    {"url": f"{_EXTENSION}backport-payload-content", "valueCode": "id-only"}
                ]
            },
        },
    }
    name = f"subscription: create ({receiver})"
    made = actor.ask(name, "POST", "Subscription", body=asked, expect=(201,))
    path = f"Subscription/{made.json()['id']}"
    actor.ask("subscription: read", "GET", path, check=_is(asked))


def _is(asked: dict[str, Any]) -> Check:
    def check(answer: Answer) -> None:
        found = answer.json()
        if found["channel"]["endpoint"] != asked["channel"]["endpoint"]:
            raise Wrong("the subscription of another")

    return check


def _tells_of(least: int) -> Check:
    def check(answer: Answer) -> None:
        if len(answer.json().get("entry", ())) < least:
            raise Wrong("a subscription is missing")

    return check


SCENARIO: Final = Scenario("subscribers", "subscriber", 0, 0.05, 0.15, play, ("status",))
