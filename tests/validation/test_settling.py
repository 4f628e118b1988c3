"""Bounds of what is asked about the codes of one request, and what is answered about each."""

from typing import Any, Final

import pytest

from fhir_server.errors import MAX_ISSUES, FhirError, Kind
from fhir_server.search.ast import Search
from fhir_server.storage.interface import Page, Position, StoredVersion
from fhir_server.terminology.library import Library
from fhir_server.terminology.packaged import Packaged
from fhir_server.terminology.service import Terminology
from fhir_server.validation import settling
from fhir_server.validation.report import Question
from fhir_server.validation.settling import Settler
from tests.fhir_operations.terms import SYSTEM, TREE, below, value_set
from tests.validation.profiles import checker

TREES: Final = value_set("trees", below("oak"))
LANGUAGES: Final = value_set("tongues", {"system": "urn:ietf:bcp:47"})


class Nothing:
    """A store with nothing in it, or one that cannot be read; it counts what it is asked."""

    def __init__(self, *, away: bool = False) -> None:
        self.asked = 0
        self._away = away

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:  # noqa: ARG002
        raise AssertionError("no resource is named")

    async def search(
        self,
        query: Search,  # noqa: ARG002
        count: int,  # noqa: ARG002
        after: Position | None = None,  # noqa: ARG002
    ) -> Page:
        self.asked += 1
        if self._away:
            raise FhirError(Kind.UNAVAILABLE, "The store is away")
        return Page((), None)


def settler(data: Nothing | None = None) -> Settler:
    library = Library(data or Nothing(), Packaged([SYSTEM, TREES, LANGUAGES]))
    return Settler(Terminology(library))


def question(*codings: tuple[str, str], value_set: str = "", **more: Any) -> Question:
    given = {"strength": "required", "profile": "http://p", **more}
    return Question(value_set or TREES["url"], codings, "Patient.maritalStatus", **given)


async def severities(*questions: Question, by: Settler | None = None) -> list[str]:
    return [issue.severity for issue in await (by or settler()).issues(questions)]


@pytest.mark.parametrize(
    ("codings", "expected"),
    [
        ([(TREE, "oak")], []),
        ([(TREE, "stone")], ["error"]),
        ([(TREE, "stone"), (TREE, "oak")], []),
        ([("http://elsewhere", "oak")], ["error"]),
        ([("", "oak")], []),
        ([("", "stone")], ["error"]),
        ([], ["error"]),
    ],
)
async def test_one_of_the_codes_has_to_be_in_it(
    codings: list[tuple[str, str]], expected: list[str]
) -> None:
    assert await severities(question(*codings)) == expected


async def test_a_code_alone_of_an_unknown_value_set_is_not_decided() -> None:
    unknown = question(("", "oak"), value_set="http://example.org/none")
    assert await severities(unknown) == ["warning"]


async def test_well_formed_codes_of_a_grammar_are_in_it() -> None:
    asked = [
        question(("urn:ietf:bcp:47", code), value_set=LANGUAGES["url"])
        for code in ("en-GB", "cy", "sgn-GB-x-makaton", "not a language")
    ]
    assert await severities(*asked) == ["error"]


async def test_the_same_code_is_asked_about_once() -> None:
    data = Nothing()
    by = settler(data)
    await severities(question((TREE, "oak")), by=by)
    asked = data.asked
    await severities(question((TREE, "oak")), question((TREE, "sessile")), by=by)
    assert data.asked == asked


async def test_only_so_many_codes_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_MOST", 2)
    asked = [question((TREE, code)) for code in ("oak", "sessile", "stone", "oak")]
    assert await severities(*asked) == ["warning"]


async def test_after_a_while_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_PATIENCE", -1)
    assert await severities(question((TREE, "oak"))) == ["warning"]


async def test_a_store_that_cannot_be_read_is_no_warning() -> None:
    with pytest.raises(FhirError) as caught:
        await severities(question((TREE, "oak")), by=settler(Nothing(away=True)))
    assert caught.value.kind is Kind.UNAVAILABLE


def test_many_warnings_are_no_error() -> None:
    """A Bundle whose entries have no narrative has a warning for each."""
    entry = {"resource": {"resourceType": "Basic", "code": {"text": "a"}}}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [entry] * (MAX_ISSUES + 9)}
    findings = checker().check(bundle)
    assert len(findings.issues) == MAX_ISSUES + 1
    assert findings.errors == []
