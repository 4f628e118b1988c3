"""Answers are to the questions of their Questionnaire, where the server has it.

https://hl7.org/fhir/R4/questionnaireresponse.html#notes
"""

import json
from collections.abc import Iterable
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES
from tests.support import FHIR_JSON, assert_outcome, body, outcome_issues

Json = dict[str, Any]
URL: Final = "https://area.example/fhir/Questionnaire/sleep"
ASKED: Final = (
    {"linkId": "hours", "type": "integer"},
    {"linkId": "words", "type": "text", "repeats": True},
    {"linkId": "home", "type": "url"},
    {
        "linkId": "how",
        "type": "choice",
        "answerOption": [{"valueCoding": {"code": "well"}}, {"valueString": "badly"}],
        "item": [{"linkId": "why", "type": "open-choice"}],
    },
    {"linkId": "about", "type": "group", "item": [{"linkId": "since", "type": "date"}]},
)


def questionnaire(items: Iterable[Json] = ASKED, **more: Any) -> Json:
    made = {"resourceType": "Questionnaire", "url": URL, "status": "active", "item": [*items]}
    return {**made, **more}


def answers(*items: Json, **more: Any) -> Json:
    return {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": URL,
        "status": "in-progress",
        "item": [*items],
        **more,
    }


def item(link_id: str, *values: Json, **more: Any) -> Json:
    return {"linkId": link_id, "answer": [*values], **more}


@pytest.fixture
async def asking(client: httpx.AsyncClient) -> httpx.AsyncClient:
    assert (await client.post("Questionnaire", **body(questionnaire()))).status_code == 201
    return client


SOUND: Final = [
    item("hours", {"valueInteger": 7}),
    item("words", {"valueString": "I wake"}, {"valueString": "often"}),
    item("home", {"valueUri": "https://home.example"}),
    item("how", {"valueString": "badly", "item": [item("why", {"valueString": "Noise"})]}),
    {"linkId": "about", "item": [item("since", {"valueDate": "2026-01"})]},
]


async def test_answers_to_what_is_asked_are_taken(asking: httpx.AsyncClient) -> None:
    taken = await asking.post("QuestionnaireResponse", **body(answers(*SOUND)))
    assert taken.status_code == 201, taken.text


@pytest.mark.parametrize(
    ("given", "place", "said"),
    [
        (item("minutes", {"valueInteger": 7}), "item[0].linkId", "'minutes' is no linkId of"),
        (item("hours", {"valueString": "7"}), "item[0].answer[0]", "asks for valueInteger"),
        (item("how", {"valueInteger": 7}), "item[0].answer[0]", "valueCoding or valueString"),
        (item("about", {"valueString": "x"}), "item[0].answer[0]", "asks for no answer"),
        (
            item("hours", {"valueInteger": 7}, {"valueInteger": 8}),
            "item[0].answer",
            "asks for one answer, not for 2",
        ),
        (
            item("how", {"valueCoding": {"code": "well"}, "item": [{"linkId": "when"}]}),
            "item[0].answer[0].item[0].linkId",
            "'when' is no linkId",
        ),
        (
            {"linkId": "about", "item": [item("since", {"valueString": "long"})]},
            "item[0].item[0].answer[0]",
            "asks for valueDate",
        ),
    ],
)
async def test_others_are_refused_with_their_place(
    asking: httpx.AsyncClient, given: Json, place: str, said: str
) -> None:
    sent = body(answers(given))
    refused = await asking.post("QuestionnaireResponse", **sent)
    expected = f"QuestionnaireResponse.{place}"
    assert_outcome(refused, 422, "value", said, expected)
    validated = await asking.post("QuestionnaireResponse/$validate", **sent)
    assert [issue["expression"] for issue in outcome_issues(validated)][-1] == [expected]


async def test_an_update_a_patch_and_a_transaction_are_refused_too(
    asking: httpx.AsyncClient,
) -> None:
    wrong = answers(item("minutes", {"valueInteger": 7}), id="some")
    place = "QuestionnaireResponse.item[0].linkId"
    updated = await asking.put("QuestionnaireResponse/some", **body(wrong))
    assert_outcome(updated, 422, "value", "no linkId", place)
    sound = answers(item("hours", {"valueInteger": 7}), id="some")
    assert (await asking.put("QuestionnaireResponse/some", **body(sound))).status_code == 201
    change = [{"op": "replace", "path": "/item/0/linkId", "value": "minutes"}]
    patched = await asking.patch(
        "QuestionnaireResponse/some",
        content=json.dumps(change),
        headers={"Content-Type": "application/json-patch+json"},
    )
    assert_outcome(patched, 422, "value", "no linkId", place)
    entry = {"resource": wrong, "request": {"method": "PUT", "url": "QuestionnaireResponse/some"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    sent = await asking.post("", **body(bundle))
    assert_outcome(sent, 422, "value", "no linkId", f"Bundle.entry[0].resource{place[21:]}")


async def test_what_is_not_known_or_of_another_version_is_taken(
    asking: httpx.AsyncClient,
) -> None:
    wrong = item("minutes", {"valueInteger": 7})
    for canonical in (f"{URL}|2", "https://area.example/fhir/Questionnaire/other"):
        sent = answers(wrong, questionnaire=canonical)
        assert (await asking.post("QuestionnaireResponse", **body(sent))).status_code == 201
    mistaken = answers(wrong, status="entered-in-error")
    assert (await asking.post("QuestionnaireResponse", **body(mistaken))).status_code == 201


async def test_of_several_with_one_address_any_will_do(asking: httpx.AsyncClient) -> None:
    newer = questionnaire([{"linkId": "minutes", "type": "integer"}], version="2")
    assert (await asking.post("Questionnaire", **body(newer))).status_code == 201
    given = item("minutes", {"valueInteger": 7})
    assert (await asking.post("QuestionnaireResponse", **body(answers(given)))).status_code == 201
    older = item("hours", {"valueInteger": 7})
    versioned = answers(older, questionnaire=f"{URL}|2")
    refused = await asking.post("QuestionnaireResponse", **body(versioned))
    assert_outcome(refused, 422, "value", "'hours' is no linkId")


async def test_answers_to_the_risk_questions_need_not_claim_the_profile(
    client: httpx.AsyncClient,
) -> None:
    """Once a server has published them."""
    asked = (PROFILES / "kw-questionnaire" / "dsr-risk.json").read_bytes()
    stored = await client.put("Questionnaire/dsr-risk", content=asked, headers=FHIR_JSON)
    assert stored.status_code == 201, stored.text
    wrong = answers(
        item("serious-harm", {"valueString": "yes"}),
        questionnaire=canonicals.DSR_RISK_QUESTIONNAIRE,
    )
    refused = await client.post("QuestionnaireResponse", **body(wrong))
    assert_outcome(
        refused, 422, "value", "asks for valueBoolean", "QuestionnaireResponse.item[0].answer[0]"
    )


ABSENT: Final = {"extension": [{"url": "https://area.example/why", "valueString": "lost"}]}


async def test_an_extension_in_the_place_of_a_link_id_fits_no_question(
    asking: httpx.AsyncClient,
) -> None:
    refused = await asking.post("QuestionnaireResponse", **body(answers({"_linkId": ABSENT})))
    place = "QuestionnaireResponse.item[0].linkId"
    assert_outcome(refused, 422, "value", "is no linkId", place)


async def test_an_extension_in_the_place_of_what_a_question_says_asks_for_nothing(
    client: httpx.AsyncClient,
) -> None:
    items = ({"_linkId": ABSENT, "type": "date"}, {"linkId": "hours", "_type": ABSENT})
    stored = await client.post("Questionnaire", **body(questionnaire(items)))
    assert stored.status_code == 201, stored.text
    sent = answers(item("hours", {"valueInteger": 7}))
    taken = await client.post("QuestionnaireResponse", **body(sent))
    assert taken.status_code == 201, taken.text


async def test_validate_tells_what_does_not_fit_and_refuses_nothing(
    asking: httpx.AsyncClient,
) -> None:
    sent = answers(item("minutes", {"valueInteger": 400}))
    told = await asking.post("QuestionnaireResponse/$validate", **body(sent))
    assert_outcome(told, 200, "value", "'minutes' is no linkId")


@pytest.mark.parametrize(
    "faulty",
    [
        {"resourceType": "QuestionnaireResponse", "questionnaire": 5},
        {"resourceType": "QuestionnaireResponse", "questionnaire": URL, "item": [{"answer": 1}]},
        {"resourceType": "CarePlan", "status": "active", "category": ["x"]},
        {"resourceType": "CarePlan", "status": "active", "category": [{"coding": [[{}]]}]},
    ],
)
async def test_validate_tells_of_what_is_too_broken_to_be_compared(
    asking: httpx.AsyncClient, faulty: Json
) -> None:
    told = await asking.post(f"{faulty['resourceType']}/$validate", **body(faulty))
    assert told.status_code == 200, told.text
    assert any(issue["severity"] == "error" for issue in outcome_issues(told))
