"""What stays of an involvement whatever is sent: its status history, its person, its kind."""

import pytest

from tests.operations.chart import Chart
from tests.operations.messages import JSON
from tests.operations.test_pathway import (
    PAUSE,
    assert_moved,
    by_operation,
    episode,
    moved,
    operate,
    told,
    update,
)
from tests.operations.timing import begin, involve, timers
from tests.support import assert_outcome, body, outcome_issues


async def test_a_create_is_taken_in_whatever_state_and_asks_for_the_consent_that_is_missing(
    unknown: Chart,
) -> None:
    await begin(unknown)
    created = await involve(unknown, "plan-active")
    (task,) = await timers(unknown, "obtain-consent")
    assert task["focus"] == {"reference": f"EpisodeOfCare/{created['id']}"}


async def test_a_create_where_consent_was_refused_asks_to_talk_about_it_instead(
    unknown: Chart,
) -> None:
    await begin(unknown)
    await unknown.consent("keyworking", status="rejected")
    await involve(unknown, "plan-active")
    (task,) = await timers(unknown, "review-consent")
    assert task["focus"] == {"reference": "Consent/consent-keyworking"}
    assert await timers(unknown, "obtain-consent") == []


async def test_the_status_history_is_the_server_s(unknown: Chart) -> None:
    await unknown.open(state="consent-pending")
    sent = moved(await episode(unknown), "awaiting-allocation")
    told_history = [{"status": "active", "period": {"start": "2020-01-01"}}]
    await unknown.write({**sent, "statusHistory": told_history})
    first, second = (await episode(unknown))["statusHistory"]
    assert (first["status"], first["period"]["start"]) == ("planned", "2026-01-05")
    assert first["period"]["end"] == second["period"]["start"]
    assert (second["status"], "end" in second["period"]) == ("waitlist", False)
    assert_moved(await by_operation(unknown, "information-gathering"))
    statuses = [one["status"] for one in (await episode(unknown))["statusHistory"]]
    assert statuses == ["planned", "waitlist", "active"]


async def test_a_pause_needs_a_reason(chart: Chart) -> None:
    found = await episode(chart)
    answer = await update(chart, {**found, "status": "onhold"})
    assert "A pause needs a reason" in told(answer)
    paused = {**found, "status": "onhold", "extension": [*found["extension"], PAUSE]}
    await chart.write(paused)
    assert (await episode(chart))["status"] == "onhold"


async def test_transition_pauses_and_goes_on(chart: Chart) -> None:
    assert "A pause needs" in told(await operate(chart, "transition", to="plan-active", pause=True))
    answer = await operate(chart, "transition", to="plan-active", pause=True, reason="Abroad")
    assert answer.json()["status"] == "onhold"
    answer = await operate(chart, "transition", to="plan-active")
    assert answer.json()["status"] == "active"
    assert "plan-active already" in told(await operate(chart, "transition", to="plan-active"))


@pytest.mark.parametrize(
    ("elements", "place"),
    [
        ({"patient": {"reference": "Patient/other"}}, "EpisodeOfCare.patient"),
        ({"type": [{"text": "Something else"}]}, "EpisodeOfCare.type"),
    ],
)
async def test_an_involvement_stays_keyworking_with_the_same_young_person(
    older: Chart, elements: JSON, place: str
) -> None:
    await older.open()
    await older.write({"resourceType": "Patient", "id": "other", "birthDate": "2011-01-01"})
    sent = {**await episode(older), **elements}
    del sent["team"]  # which is of the one it was about
    answer = await update(older, sent)
    told(answer)
    assert [place] in [issue["expression"] for issue in outcome_issues(answer)]


async def test_an_episode_of_another_service_is_left_alone(chart: Chart) -> None:
    other = {
        "resourceType": "EpisodeOfCare",
        "id": "other",
        "status": "planned",
        "patient": {"reference": chart.patient},
    }
    await chart.write(other)
    await chart.write({**other, "status": "onhold"})
    answer = await chart.client.post(
        "EpisodeOfCare/other/$transition?to=planning", **body({"resourceType": "Parameters"})
    )
    assert answer.status_code in (400, 422)


async def test_transition_refuses_an_unknown_state_and_an_unknown_involvement(
    chart: Chart,
) -> None:
    assert "is no state of the pathway" in told(await by_operation(chart, "nowhere"))
    asked = {"resourceType": "Parameters", "parameter": [{"name": "to", "valueCode": "planning"}]}
    answer = await chart.client.post("EpisodeOfCare/none/$transition", **body(asked))
    assert_outcome(answer, 404, "not-found", "EpisodeOfCare/none is not known")
