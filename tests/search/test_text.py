"""`_text` and `_content`: which text counts, how it is cut into words, and what may be asked.

https://hl7.org/fhir/R4/search.html#text; what searches find is in `cases/text.json`.
"""

from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.ast import Missing, Node, Not, TextMatches
from fhir_server.search.fulltext import texts
from fhir_server.search.limits import Limits
from fhir_server.search.match import match
from fhir_server.search.parse import parse, parse_several
from fhir_server.search.values import TextValue
from fhir_server.search.words import LONGEST, running_words, words
from tests.storage.questions import BASE, NOW
from tests.support import official_examples


def where(value: str, name: str = "_text", **options: Any) -> Node:
    return parse("Patient", [(name, value)], base=BASE, now=NOW, **options).query.where


def refusal(value: str, name: str = "_text", **options: Any) -> FhirError:
    with pytest.raises(FhirError) as caught:
        where(value, name, **options)
    (issue,) = caught.value.issues
    assert issue.expression == f"http.{name}"
    return caught.value


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane's follow-up", ["jane", "s", "follow", "up"]),
        ("snake_case,2026-03-29", ["snake", "case", "2026", "03", "29"]),
        ("Séverine STRASSE straße", ["severine", "strasse", "strasse"]),
        ("e\u0301te", ["ete"]),
        ("\ufb01eld Ⅷ", ["field", "viii"]),
        ("日本 한글", ["日本", "한글"]),
        ("¶ … 😀 \x01", []),
        ("a" * (LONGEST + 1), ["a" * LONGEST, "a"]),
        ("é" * (LONGEST + 1), ["e" * LONGEST, "e"]),
    ],
)
def test_a_text_is_cut_into_folded_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert running_words([text]) == " ".join(expected)


@given(st.lists(st.text(max_size=30), max_size=4))
def test_the_words_of_several_texts_are_those_of_each(many: list[str]) -> None:
    """However they are cut; the order and repeats of texts are another matter."""
    together = running_words(f"{text} 日" for text in many).split()
    each = [word for text in dict.fromkeys(many) for word in words(f"{text} 日")]
    assert [word for word in together if word != "¶"] == each


def test_long_runs_of_plain_letters_are_cut_as_others_are() -> None:
    run = "x" * 600
    assert running_words([run]) == " ".join(words(f"{run} é")[:-1])


# Which text counts


def content(resource: dict[str, Any]) -> set[str]:
    """The texts of `_content`, whichever came first."""
    values = [value.words for code, value in texts(resource) if code == "_content"]
    return {piece.strip() for value in values for piece in value.split("¶")} - {""}


NARRATIVE: Final = {"status": "generated", "div": "<div>seen</div>"}


def test_elements_of_every_text_type_count_and_of_no_other() -> None:
    resource = {
        "resourceType": "Observation",
        "id": "no1",
        "implicitRules": "urn:no2",
        "meta": {"source": "urn:no3", "tag": [{"display": "no4"}]},
        "status": "yes1",
        "code": {"coding": [{"system": "urn:no5", "code": "yes2", "display": "yes3"}]},
        "identifier": [{"id": "no6", "system": "urn:no7", "value": "yes4"}],
        "subject": {"reference": "Patient/no8", "type": "no9", "display": "yes5"},
        "effectiveDateTime": "2026",
        "valueString": "yes6",
        "note": [{"text": "yes7", "time": "2026"}],
        "_status": {"extension": [{"url": "urn:no10", "valueMarkdown": "yes8"}]},
        "extension": [
            {"url": "urn:no11", "valueBase64Binary": "bm8xMg=="},
            {"url": "urn:no13", "valueInteger": 14},
        ],
        "component": [{"code": {"text": "yes9"}, "valueBoolean": True}],
        "unknown": "no15",
    }
    assert content(resource) == {f"yes{n}" for n in range(1, 10)}


def test_the_narrative_is_one_of_the_contents() -> None:
    resource = {"resourceType": "Patient", "text": NARRATIVE, "name": [{"family": "Birch"}]}
    assert list(texts(resource)) == [
        ("_text", TextValue("seen")),
        ("_content", TextValue("seen")),
        ("_content", TextValue("birch")),
    ]


def test_a_bundle_has_the_texts_of_its_entries_but_no_narrative() -> None:
    entry = {
        "resource": {"resourceType": "Patient", "text": NARRATIVE, "name": [{"text": "Rowan"}]}
    }
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    assert content(bundle) == {"collection", "seen", "rowan"}
    assert [code for code, _ in texts(bundle)] == ["_content"]


@pytest.mark.parametrize(
    "div",
    [
        "<div>seen",
        "<div><p>seen</p></div>",
        "<div>s<b>ee</b>n</div>",
        "<div>&#115;een</div>",
        "<div><![CDATA[seen]]></div>",
        "<div title='a &gt; b'>seen<!-- not this --></div>",
    ],
)
def test_a_narrative_counts_without_its_mark_up(div: str) -> None:
    resource = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
    assert next(iter(texts(resource))) == ("_text", TextValue("seen"))


@pytest.mark.parametrize(
    "odd",
    [
        {"text": "x"},
        {"text": {"div": 5}},
        {"text": [NARRATIVE]},
        {"name": "x"},
        {"name": [None, 5, {"given": [None, {}]}]},
        {"contained": [{"resourceType": "Dragon", "name": "x"}, {"name": "x"}, 5, "x"]},
        {"_gender": [None, 5]},
    ],
)
def test_what_has_not_the_type_that_its_definition_says_is_passed_over(odd: Any) -> None:
    assert list(texts({"resourceType": "Patient", **odd})) == []


@pytest.mark.parametrize("resource_type", resource_types())
def test_every_type_has_text(resource_type: str) -> None:
    extension = [{"url": "urn:x", "valueString": "seen"}]
    resource = {"resourceType": resource_type, "extension": extension, "language": "en"}
    found = content(resource)
    assert found == ({"en", "seen"} if resource_type not in PLAIN else {"en"})


PLAIN: Final = ("Binary", "Bundle", "Parameters")
"""Types without extensions and a narrative of their own."""


@pytest.mark.parametrize("path", official_examples())
def test_every_word_of_an_official_narrative_is_found(path: Path) -> None:
    resource = json.decode(path.read_bytes())
    narrative = [value.words for code, value in texts(resource) if code == "_text"]
    for word in set(" ".join(narrative).replace("¶", " ").split()):
        assert match(TextMatches("_text", word), resource)
        assert match(TextMatches("_content", word), resource)


# What may be asked


REFUSED: Final = [
    (" ", 2, ("the text ends", "a word")),
    ("!!!", 4, ("the text ends", "a word")),
    ("bone AND", 9, ("the text ends", "a word")),
    ("OR bone", 1, ("'OR' stands", "a word")),
    ("bone OR OR liver", 9, ("'OR' stands", "a word")),
    ("bone,", 6, ("the text ends", "a word")),
    ("NOT", 4, ("the text ends", "a word")),
    ("(bone", 6, ("the text ends", "AND, OR or )")),
    ("bone)", 5, ("')' stands", "AND, OR or the end")),
    ("()", 2, ("')' stands", "a word")),
    ('"bone', 1, ("never closes",)),
    ('bone "', 6, ("never closes",)),
    ('bone ""', 6, ("a phrase with a letter or digit",)),
    ("b*", 1, ("at least 2 characters",)),
    ('"bone m"*', 1, ("at least 2 characters",)),
]


@pytest.mark.parametrize(("value", "at", "says"), REFUSED)
@pytest.mark.parametrize("name", ["_text", "_content"])
def test_refuses_at_the_character_with_what_is_expected(
    name: str, value: str, at: int, says: tuple[str, ...]
) -> None:
    error = refusal(value, name)
    assert error.kind is Kind.INVALID
    assert error.issues[0].text.startswith(f"At character {at}: ")
    for piece in says:
        assert piece in error.issues[0].text


@pytest.mark.parametrize("name", ["_text:exact", "_content:contains", "_text:not", "_text:"])
def test_takes_no_modifier_but_missing(name: str) -> None:
    assert "modifier" in refusal("x", name).issues[0].text


def test_missing_is_about_the_words() -> None:
    assert where("true", "_text:missing") == Missing("_text", "text")
    assert where("false", "_content:missing") == Not(Missing("_content", "text"))
    assert "true or false" in refusal("yes", "_text:missing").issues[0].text


def test_words_count_as_values() -> None:
    where("one two three", limits=Limits(max_values=3))
    for value in ("one two three four", '"one two three four"', "one,two,three,four", "a-b-c-d"):
        assert refusal(value, limits=Limits(max_values=3)).kind is Kind.TOO_COSTLY


def test_words_and_tests_count_for_each_type_that_is_searched() -> None:
    limits = Limits(max_tests=6)
    for name, value in (("_content", "one two three"), ("_filter", "_id eq a or _id eq b")):
        pair = (name, value)
        parse_several(("Patient", "Task"), [pair], base=BASE, now=NOW, limits=limits)
        with pytest.raises(FhirError, match="name fewer types"):
            parse_several(resource_types(), [pair], base=BASE, now=NOW, limits=limits)


def test_nesting_and_length_are_bounded() -> None:
    where("(" * 20 + "x" + ")" * 20)
    assert refusal("(" * 21 + "x" + ")" * 21).kind is Kind.TOO_COSTLY
    assert refusal("-(" * 21 + "x" + ")" * 21).kind is Kind.TOO_COSTLY
    assert refusal("NOT " * 21 + "x").kind is Kind.TOO_COSTLY
    assert refusal("x" * 11, limits=Limits(max_expression=10)).kind is Kind.TOO_COSTLY


pieces: Final = st.sampled_from(
    (
        '"',
        "(",
        ")",
        "*",
        "-",
        ",",
        " ",
        "\\",
        "AND",
        "or",
        "NOT",
        "bone",
        "é",
        "¶",
        "\x00",
        "\ud800",
    )
)


@given(st.text(max_size=40) | st.lists(pieces, max_size=14).map("".join))
def test_any_text_is_understood_or_refused(value: str) -> None:
    try:
        node = where(value)
    except FhirError:
        assert refusal(value).kind in (Kind.INVALID, Kind.TOO_COSTLY)
    else:
        assert match(node, {"resourceType": "Patient"}) in (True, False)
