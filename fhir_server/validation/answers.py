"""Whether answers are to the questions of their Questionnaire, where that is stored.

A linkId that it lacks, a value of another type than its question asks, and a second answer where
one is asked. What has to be answered when, `enableWhen` says with it, and is not looked at.
Sources: https://hl7.org/fhir/R4/questionnaireresponse.html#notes,
https://hl7.org/fhir/R4/valueset-item-type.html
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query, UriIs
from fhir_server.terminology.library import Reads
from fhir_server.validation.places import Place, expression
from fhir_server.validation.primitives import shown

_MOST: Final = 20
"""Questionnaires of one address that answers may be to."""
_VALUES: Final = {
    "text": {"valueString"},
    "url": {"valueUri"},
    "choice": {"valueCoding"},
    "open-choice": {"valueCoding", "valueString"},
    "group": set[str](),
    "display": set[str](),
}
"""Of the other types, the value is called after the type."""
Item = Mapping[str, Any]


async def unfit_answers(resource: Resource | None, data: Reads) -> list[Issue]:
    """What keeps a QuestionnaireResponse from being one to a Questionnaire that is stored.

    Where several have its address, and the version where it names one, any of them will do. One
    that was entered in error is left alone.
    """
    if resource is None or resource.get("resourceType") != "QuestionnaireResponse":
        return []
    canonical = resource.get("questionnaire", "")
    if not canonical or resource.get("status") == "entered-in-error":
        return []
    url, _, version = canonical.partition("|")
    page = await data.search(Query("Questionnaire", UriIs("url", url)), _MOST)
    found = [json.decode_resource(each.body) for each in page.matches]
    meant = [each for each in found if version in ("", each.get("version"))]
    told = [list(_problems(resource, each, canonical)) for each in meant]
    return min(told, key=len, default=[])


def _problems(response: Resource, questionnaire: Resource, canonical: str) -> Iterator[Issue]:
    asked = {item["linkId"]: item for item in _asked(questionnaire) if "linkId" in item}
    for item, place in _given(response, (None, "QuestionnaireResponse")):
        link = item.get("linkId", "")  # an extension may stand in its place
        question = asked.get(link)
        if question is None:
            text = f"{shown(link)} is no linkId of {canonical}"
            yield _issue(text, (place, "linkId"), "linkId", canonical)
        else:
            yield from _of_answers(item.get("answer", ()), question, place, canonical)


def _of_answers(answers: Any, question: Item, place: Place, canonical: str) -> Iterator[Issue]:
    if len(answers) > 1 and not question.get("repeats"):
        text = f"{canonical} asks for one answer, not for {len(answers)}"
        yield _issue(text, (place, "answer"), "repeats", canonical)
    allowed = _values(question)
    for index, answer in enumerate(answers):
        given = next((name for name in answer if name.startswith("value")), None)
        if given and "type" in question and given not in allowed:
            wanted = " or ".join(sorted(allowed)) or "no answer"
            text = f"{canonical} asks for {wanted} (a {question['type']}), not for {given}"
            yield _issue(text, ((place, "answer"), index), "type", canonical)


def _values(question: Item) -> set[str]:
    kind = question.get("type", "")
    named = _VALUES.get(kind, {f"value{kind[:1].upper()}{kind[1:]}"})
    options = question.get("answerOption", ())
    return named | {name for one in options for name in one if name.startswith("value")}


def _asked(node: Item) -> Iterator[Item]:
    for item in node.get("item", ()):
        yield item
        yield from _asked(item)


def _given(node: Item, at: Place) -> Iterator[tuple[Item, Place]]:
    """Items with their places, those within answers too."""
    for index, item in enumerate(node.get("item", ())):
        place = ((at, "item"), index)
        yield item, place
        yield from _given(item, place)
        for number, answer in enumerate(item.get("answer", ())):
            yield from _given(answer, ((place, "answer"), number))


def _issue(text: str, place: Place, rule: str, canonical: str) -> Issue:
    return Issue(text, expression(place), "value", "error", rule, canonical)
