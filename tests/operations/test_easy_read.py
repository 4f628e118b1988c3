"""CarePlan/$easy-read"""

import json
import re
from html.parser import HTMLParser

import pytest
import textstat
from fhir.resources.R4B.bundle import Bundle

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from operations import _easy_words as easy
from operations._easy_read import Material, sections
from operations._easy_words import in_words
from tests.operations.asking import got
from tests.operations.chart import Chart, concept, voice
from tests.operations.messages import JSON
from tests.support import REPOSITORY, assert_outcome, body, caseload, put

_AGE = 9
"""Years: the American grade of a text and five more."""


class Read(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.own: list[str] = []
        self.quoted: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes[tag] = dict(attrs)

    def handle_data(self, data: str) -> None:
        kept = {"p": self.own, "blockquote": self.quoted}.get(self.tags[-1])
        if kept is not None:
            kept.append(data)


async def page(chart: Chart, plan: str = "plan") -> Read:
    answer = await chart.client.get(f"CarePlan/{plan}/$easy-read", headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Read(answer.text)


async def test_tells_the_plan_in_plain_words(chart: Chart) -> None:
    read = await page(chart)
    assert read.own[0] == "Hello Ellie."
    assert "We hope to get there by Thursday 30 April 2026." in read.own
    assert "We are working on it." in read.own
    assert "Someone is your keyworker." in read.own
    assert "If you are in danger, ring 999." in read.own


def test_says_what_is_late_and_nothing_twice() -> None:
    dues = {"T-CONSENT-RECHECK": ["2027-01-04", "2026-12-01"], "T-REVIEW-AMBER": ["2026-02-02"]}
    tasks = [
        {
            "status": "requested",
            "code": concept(canonicals.TIMER, code),
            "restriction": {"period": {"end": due}},
        }
        for code, days in dues.items()
        for due in days
    ]
    now = interval("2026-11-22").low
    (following,) = [
        one
        for one in sections(Material({}, {}, (), (), {}, tasks, now))
        if one.title == "What happens next"
    ]
    assert [line.own for line in following.lines] == [
        "We will look at how things are going.",
        "We are late. It should have been by Monday 2 February 2026.",
        "We will ask if you still want our help.",
        "This should be by Tuesday 1 December 2026.",
    ]


async def test_quotes_what_the_young_person_said(chart: Chart) -> None:
    read = await page(chart)
    assert read.quoted[:3] == [
        "I want to cook tea for my nan",
        "I want to cook tea for my nan",
        "My nan likes pasta",
    ]


async def test_somebody_elses_words_are_not_the_young_persons(chart: Chart) -> None:
    goal = (await chart.client.get("Goal/goal")).json()
    note = {"text": "She copes", "authorReference": {"reference": "Practitioner/x"}}
    await put(chart.client, {**goal, "note": [note]})
    read = await page(chart)
    assert "Someone else said:" in read.own
    assert "In your own words:" not in read.own


async def test_names_who_is_who(chart: Chart) -> None:
    name = [{"given": ["Amina"], "family": "Synthetic-Lark"}]
    await put(chart.client, {"resourceType": "Practitioner", "id": "amina", "name": name})
    held = {"practitioner": {"reference": "Practitioner/amina"}}
    await put(chart.client, {"resourceType": "PractitionerRole", "id": "keyworker", **held})
    assert "Amina Synthetic-Lark is your keyworker." in (await page(chart)).own


async def test_is_in_its_own_language_with_a_style_for_print_and_nothing_from_elsewhere(
    chart: Chart,
) -> None:
    answer = await chart.client.get("CarePlan/plan/$easy-read?_format=text/html")
    read = Read(answer.text)
    assert read.attributes["html"] == {"lang": "en-GB"}
    assert "@media print" in answer.text
    assert "http" not in answer.text
    assert not {"a", "img", "script", "link", "iframe"} & set(read.tags)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "attack",
    ["<script>alert(1)</script>", "</blockquote><img src=x onerror=alert(1)>", "&lt;b&gt; \"'"],
)
async def test_what_people_wrote_is_text_and_nothing_else(chart: Chart, attack: str) -> None:
    plan = (await chart.client.get("CarePlan/plan")).json()
    said: JSON = {**voice(), "valueAnnotation": {"text": attack}}
    await put(chart.client, {**plan, "extension": [said]})
    patient = (await chart.client.get(chart.patient)).json()
    await put(chart.client, {**patient, "name": [{"family": "x", "given": [attack]}]})
    read = await page(chart)
    assert attack in "".join(read.quoted)
    assert not {"script", "img", "b"} & set(read.tags)
    document = await got(chart.client, "CarePlan/plan/$easy-read")
    assert attack.startswith("&") or attack not in json.dumps(document["entry"][0])


async def test_is_a_document_that_the_validator_passes(chart: Chart) -> None:
    document = await got(chart.client, "CarePlan/plan/$easy-read")
    Bundle.model_validate(document)
    kinds = [entry["resource"]["resourceType"] for entry in document["entry"]]
    assert (document["type"], kinds) == ("document", ["Composition", "Patient"])
    assert document["entry"][0]["resource"]["language"] == "en-GB"
    checked = await chart.client.post("Bundle/$validate", **body(document))
    issues = checked.json()["issue"]
    assert [one for one in issues if one["severity"] in ("error", "fatal")] == []


async def test_has_no_codes(chart: Chart) -> None:
    read = await page(chart)
    text = " ".join([*read.own, *read.quoted])
    assert not re.search(r"T-[A-Z]|dp-|SNOMED|CETR|https?:", text)


async def test_a_plan_that_never_was_has_none(chart: Chart) -> None:
    plan = (await chart.client.get("CarePlan/plan")).json()
    await put(chart.client, {**plan, "status": "entered-in-error"})
    answer = await chart.client.get("CarePlan/plan/$easy-read")
    assert_outcome(answer, 422, "business-rule", "entered in error")


async def test_of_no_plan_is_not_found(chart: Chart) -> None:
    answer = await chart.client.get("CarePlan/x/$easy-read")
    assert_outcome(answer, 404, "not-found", "not known")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-12-04", "Friday 4 December 2026"),
        ("2026-12-04T23:30:00Z", "Friday 4 December 2026"),
        ("2026-12", "December 2026"),
        ("2026", "2026"),
    ],
)
def test_dates_are_in_words(text: str, words: str) -> None:
    assert in_words(text) == words


async def test_a_child_of_nine_can_read_every_plan_of_the_caseload(chart: Chart) -> None:
    """Our own sentences, without names: what people wrote is theirs."""
    resources = [entry["resource"] for bundle in caseload() for entry in bundle["entry"]]
    for start in range(0, len(resources), 50):
        entries = [_entry(one) for one in resources[start : start + 50]]
        batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        assert (await chart.client.post("", **body(batch))).status_code == 200
    plans = [one["id"] for one in resources if one["resourceType"] == "CarePlan"]
    assert len(plans) > 10
    for plan in plans:
        own = _without_names((await page(chart, plan)).own)
        assert _age(own) <= _AGE, (plan, own)


def _entry(resource: JSON) -> JSON:
    address = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": address}}


def _without_names(lines: list[str]) -> str:
    text = " ".join(line.replace(":", ".") for line in lines)
    return re.sub(r"\w+ Synthetic-\w+", "Sam", text)


def _age(text: str) -> float:
    return float(textstat.flesch_kincaid_grade(text)) + 5


def test_each_sentence_is_short() -> None:
    sentences = [
        *(text for pair in easy.ROLES.values() for text in pair),
        *easy.TASKS.values(),
        *easy.ITEMS.values(),
        *easy.GOAL_STATES.values(),
    ]
    for sentence in sentences:
        assert max(len(part.split()) for part in re.split(r"[.!]", sentence)) <= 11, sentence


def test_words_are_there_for_each_role_item_and_kind_of_plan() -> None:
    for system, words in (
        ("care-team-role", easy.ROLES),
        ("discharge-item", easy.ITEMS),
        ("care-plan-category", easy.TITLES),
    ):
        assert {*_codes(system)} == {*words}
    assert set(easy.TASKS) <= {*_codes("timer"), *_codes("task")}


def _codes(name: str) -> list[str]:
    content = (REPOSITORY / "terminology" / f"CodeSystem-{name}.json").read_text("utf-8")
    found: JSON = json.loads(content)
    assert found["url"] == canonicals.code_system(name)
    return [one["code"] for one in found["concept"]]
