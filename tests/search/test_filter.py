"""`_filter`: what is not understood is refused at its character, and nothing gets past a limit.

https://hl7.org/fhir/R4/search_filter.html; what filters find is in `cases/filter.json`.
"""

from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.ast import And, Chain, Node, Not, Or, Prefix, TokenIs, TokenLike
from fhir_server.search.composites import composites
from fhir_server.search.extract import indexed_parameters
from fhir_server.search.filter import OPERATORS
from fhir_server.search.filtering import ALLOWED
from fhir_server.search.limits import Limits
from fhir_server.search.parse import parse, parse_criteria
from tests.storage.questions import BASE, NOW


def where(resource_type: str, *filters: str, **options: Any) -> Node:
    pairs = [("_filter", text) for text in filters]
    return parse(resource_type, pairs, base=BASE, now=NOW, **options).query.where


def refusal(resource_type: str, text: str, **options: Any) -> FhirError:
    with pytest.raises(FhirError) as caught:
        where(resource_type, text, **options)
    (issue,) = caught.value.issues
    assert issue.expression == "http._filter"
    return caught.value


REFUSED: Final = [
    # Grammar
    ("Patient", " ", 2, ("the text ends", "a parameter's name")),
    ("Patient", "(gender eq male", 16, ("the text ends", "and, or or )")),
    ("Patient", "gender eq male)", 15, ("')' stands", "and, or or the end")),
    ("Patient", "gender eq male and", 19, ("the text ends", "a parameter's name")),
    ("Patient", "gender eq male xor active eq true", 16, ("'xor' stands", "and, or or the end")),
    ("Patient", "or gender eq male", 4, ("'gender' stands", "an operator")),
    ("Patient", "not gender eq male", 5, ("'gender' stands", "( after not")),
    ("Patient", "gender", 7, ("the text ends", "a space and an operator")),
    ("Patient", "gender is male", 8, ("'is' stands", "eq, ne, co, sw, ew, gt")),
    ("Patient", "gender eq", 10, ("the text ends", "a space and a value")),
    ("Patient", "gender eq ", 11, ("the text ends", "a value")),
    ("Patient", "gender eq )", 11, ("')' stands", "a value")),
    ("Patient", 'name eq"x"', 8, ("stands", "a space and a value")),
    ("Patient", 'name eq "x', 9, ("no JSON string",)),
    ("Patient", r'name eq "x\q"', 11, ("no JSON string",)),
    ("Patient", 'name eq "x"y', 12, ("'y' stands", "a space, ) or ]")),
    ("Patient", r'name eq "\ud800"', 9, ("surrogate",)),
    ("Patient", "=name", 1, ("'=name' stands", "a parameter's name")),
    ("CarePlan", "subject. eq x", 10, ("'eq' stands", "a parameter's name")),
    ("CarePlan", "subject[name eq x eq y", 19, ("'eq' stands", "and, or or ]")),
    ("CarePlan", "subject[name eq x] eq y", 20, ("'eq' stands", ". and a parameter's name")),
    ("CarePlan", "subject:Patient re Patient/1", 17, ("'re' stands", ". and")),
    ("CarePlan", "subject:.name eq x", 9, ("'.name' stands", "a resource type")),
    # Names
    ("Patient", "gender eq x and nmae eq y", 17, ("'nmae'", "did you mean name")),
    ("CarePlan", "subject.nmae eq x", 1, ("'nmae'", "Group or Patient", "subject")),
    ("CarePlan", "status.name eq x", 1, ("'status' is not a reference parameter",)),
    ("CarePlan", "subject:Location.name eq x", 1, ("never refers to a Location",)),
    ("CarePlan", "subject[nmae eq x].name eq y", 9, ("'nmae'",)),
    ("CarePlan", "subject[name eq x].nmae eq y", 1, ("'nmae'", "Group or Patient")),
    ("Patient", "_text co x", 1, ("cannot stand in a filter",)),
    ("Patient", "_filter eq x", 1, ("cannot stand in a filter",)),
    ("Patient", "_has pr true", 1, ("cannot stand in a filter",)),
    ("Patient", "_list eq x", 1, ("cannot stand in a filter",)),
    ("Patient", "_sort eq name", 1, ("_sort",)),
    ("CarePlan", "instantiates-canonical.colour eq x", 1, ("not a search parameter of Activity",)),
    ("Observation", 'related[type eq "x"].target pr true', 1, ("R4 has not",)),
    ("ServiceRequest", "item[code eq x].status eq y", 1, ("R4 has not",)),
    ("Group", "characteristic[kind eq x].value eq y", 16, ("'kind'", "value and code")),
    ("Group", "characteristic[code eq x].kind eq y", 27, ("'kind'", "value and code")),
    ("Group", "characteristic[code eq x].code eq y", 1, ("stands in brackets",)),
    ("Group", "characteristic[not (code eq x)].value eq y", 21, ("with or between",)),
    ("Group", "characteristic[code eq x and code eq y].value eq z", 16, ("with or between",)),
    ("Group", "characteristic[code ne x].value eq y", 21, ("eq and re are",)),
    ("Group", "characteristic[value pr false].code eq y", 25, ("always has it",)),
    ("DocumentReference", "relatesTo[code eq x].target.status eq y", 29, ("no chain goes on",)),
    # Operators and values
    ("Patient", "gender co male", 8, ("'co' is not an operator for gender, a token", "eq, ne")),
    ("CarePlan", "subject eq Patient/1", 9, ("'eq'", "a reference parameter", "re, pr")),
    ("Patient", "name ap x", 6, ("'ap'", "a string parameter")),
    ("Patient", "birthdate sw 2010", 11, ("'sw'", "a date parameter", "po")),
    ("RiskAssessment", "probability co 1", 13, ("not supported",)),
    ("Patient", "_id co x", 5, ("'co'", "eq, ne")),
    ("Patient", "_id eq a/b", 8, ("not an id",)),
    ("Patient", "gender eq male and birthdate eq soon", 33, ("'soon' is not a date",)),
    ("Patient", "birthdate gt lt2010", 14, ("not a date",)),
    ("Observation", "value-quantity eq 5|kg", 19, ("number|system|code",)),
    ("Observation", "code-value-quantity eq a", 24, ("1 of 2 parts",)),
    ("Patient", 'name eq ""', 9, ("empty",)),
    ("ValueSet", 'url eq ""', 8, ("empty",)),
    ("Patient", "gender pr maybe", 11, ("true or false",)),
    ("CarePlan", "subject re Dragon/1", 12, ("not a reference",)),
    ("CarePlan", 'subject.birthdate eq "soon"', 22, ("'soon' is not a date",)),
]


@pytest.mark.parametrize(("resource_type", "text", "at", "says"), REFUSED)
def test_refuses_at_the_character_with_what_is_expected(
    resource_type: str, text: str, at: int, says: tuple[str, ...]
) -> None:
    error = refusal(resource_type, text)
    assert error.kind is Kind.INVALID
    assert error.issues[0].text.startswith(f"At character {at}: ")
    for piece in says:
        assert piece in error.issues[0].text, error.issues[0].text


@pytest.mark.parametrize(
    ("resource_type", "text"),
    [("Observation", "related[type eq x].target pr true"), ("RiskAssessment", "probability co 1")],
)
def test_what_is_not_supported_says_so_by_its_code(resource_type: str, text: str) -> None:
    assert refusal(resource_type, text).issues[0].code == "not-supported"


@pytest.mark.parametrize(
    "name", ["_filter:exact", "subject._filter", "_has:CarePlan:subject:_filter"]
)
def test_takes_no_modifier_and_stands_in_no_chain(name: str) -> None:
    with pytest.raises(FhirError, match="takes no modifier and stands in no chain"):
        parse("Patient" if ":C" in name else "CarePlan", [(name, "x")], base=BASE, now=NOW)


def test_lenient_handling_leaves_it_out_and_says_so() -> None:
    found = parse("Patient", [("_filter", "gender is x")], base=BASE, now=NOW, lenient=True)
    assert [issue.expression for issue in found.ignored] == ["http._filter"]


# Limits


def test_values_of_filters_count_with_all_others() -> None:
    limits = Limits(max_values=3)
    text = "gender eq a or gender eq b or gender eq c"
    assert isinstance(where("Patient", text, limits=limits), Or)
    assert refusal("Patient", f"{text} or gender eq d", limits=limits).kind is Kind.TOO_COSTLY
    with pytest.raises(FhirError) as caught:
        parse("Patient", [("active", "true"), ("_filter", text)], base=BASE, now=NOW, limits=limits)
    assert caught.value.kind is Kind.TOO_COSTLY


def test_pr_counts_too() -> None:
    text = "gender pr true or name pr true"
    where("Patient", text, limits=Limits(max_values=2))
    assert refusal("Patient", text, limits=Limits(max_values=1)).kind is Kind.TOO_COSTLY


def test_values_within_brackets_count() -> None:
    text = "characteristic[code eq a or code eq b].value eq c"
    assert refusal("Group", text, limits=Limits(max_values=2)).kind is Kind.TOO_COSTLY


@pytest.mark.parametrize("text", ["partof.partof.name eq x", "partof[partof.name eq x].name eq y"])
def test_steps_count_as_those_of_chains(text: str) -> None:
    where("Location", text, limits=Limits(max_chain=2))
    assert refusal("Location", text, limits=Limits(max_chain=1)).kind is Kind.TOO_COSTLY


def test_types_that_a_step_may_mean_count() -> None:
    error = refusal("Provenance", " or ".join(["target._id eq x"] * 4))
    assert error.kind is Kind.TOO_COSTLY
    assert "name the types" in error.issues[0].text


def test_bare_ids_of_any_type_are_bounded() -> None:
    text = " or ".join(["target re x"] * 50)
    assert refusal("Provenance", f"target re x or {text}", limits=Limits(max_values=50)).kind is (
        Kind.TOO_COSTLY
    )


@pytest.mark.parametrize(
    "nested",
    [
        lambda depth: "(" * depth + "active eq true" + ")" * depth,
        lambda depth: "not(" * depth + "active eq true" + ")" * depth,
        lambda depth: (
            "".join(f"active eq true {('and', 'or')[n % 2]} " for n in range(depth + 1))
            + "active eq true"
        ),
    ],
    ids=["brackets", "not", "and and or in turn"],
)
def test_nesting_is_bounded(nested: Any) -> None:
    where("Patient", nested(20))
    error = refusal("Patient", nested(21))
    assert error.kind is Kind.TOO_COSTLY
    assert "20 are allowed" in error.issues[0].text


def test_one_bracket_after_the_other_is_not_nested() -> None:
    where("Patient", " and ".join(["(active eq true)"] * 50))


def test_the_length_is_bounded() -> None:
    text = " or ".join(["gender eq x"] * 5)
    where("Patient", text, limits=Limits(max_expression=len(text)))
    error = refusal("Patient", text, limits=Limits(max_expression=len(text) - 1))
    assert error.kind is Kind.TOO_COSTLY


# Meaning


def test_is_read_from_left_to_right() -> None:
    one, other, third = (TokenIs("identifier", None, str(n)) for n in range(3))
    asked = "identifier eq 0 {} identifier eq 1 {} identifier eq 2"
    assert where("Patient", asked.format("or", "and")) == And((Or((one, other)), third))
    assert where("Patient", asked.format("and", "or")) == Or((And((one, other)), third))
    assert where("Patient", asked.format("and", "and")) == And((one, other, third))


def test_a_code_without_letters_is_found_by_the_index() -> None:
    assert where("Condition", "code eq snomed|35919005") == (
        TokenIs("code", "http://snomed.info/sct", "35919005")
    )
    assert where("Patient", "gender eq Male") == TokenLike("gender", None, "male")


def test_pr_false_is_about_all_that_the_path_leads_to() -> None:
    node = where("CarePlan", "subject:Patient.gender pr false")
    assert isinstance(node, Not)
    assert isinstance(node.node, Chain)


def test_a_condition_may_be_a_filter_but_not_one_that_says_nothing() -> None:
    asked = [("_filter", "identifier eq 1")]
    assert parse_criteria("Patient", asked, base=BASE, now=NOW) == TokenIs("identifier", None, "1")
    with pytest.raises(FhirError, match="no search criteria"):
        parse_criteria("Patient", [("_filter", "_id pr true")], base=BASE, now=NOW)


SAMPLES: Final = {"date": "2026", "number": "1", "quantity": "1", "reference": "a/b"}
TERMINOLOGY: Final = ("ss", "sb", "in", "ni")


@pytest.mark.parametrize("resource_type", resource_types())
def test_every_parameter_takes_the_operators_of_its_type(resource_type: str) -> None:
    for code, parameter in indexed_parameters(resource_type).items():
        allowed = ALLOWED.get(parameter.type, ())
        where(resource_type, f"{code} pr true")
        for operator in OPERATORS[:-1]:
            if operator in ("pr", *TERMINOLOGY):
                continue
            value = SAMPLES.get(parameter.type, "urn:x")
            if parameter.type == "composite":
                parts = composites(resource_type)[code].components
                value = "$".join(SAMPLES.get(part.type, "urn:x") for part in parts)
                value = value.replace("a/b", "urn:x")
            text = f"{code} {operator} {value}"
            if operator in allowed:
                where(resource_type, text)
            else:
                assert f"At character {len(code) + 2}: " in str(refusal(resource_type, text))


def test_prefixes_mean_what_they_mean_elsewhere() -> None:
    for prefix in Prefix:
        plain = parse("Patient", [("birthdate", f"{prefix.value}2010")], base=BASE, now=NOW)
        assert where("Patient", f"birthdate {prefix.value} 2010") == plain.query.where


# Whatever comes

pieces: Final = st.sampled_from(
    (
        *OPERATORS,
        *(
            "gender",
            "name",
            "birthdate",
            "subject",
            "characteristic",
            "_id",
            "related",
            "not",
            "and",
        ),
        *(" ", " ", " ", "(", ")", "[", "]", ".", ":", '"', "\\", "\\u", "or", "|", "$", ",", "-"),
        *("male", "2010", "true", "Patient", "\x00", "\U0010ffff", "İ", "\ud800", "\u2003"),
    )
)


@given(
    st.text(max_size=40) | st.lists(pieces, max_size=14).map("".join),
    st.sampled_from(("Patient", "CarePlan", "Group")),
)
def test_any_text_is_understood_or_refused(text: str, resource_type: str) -> None:
    with suppress(FhirError):
        where(resource_type, text)
        return
    assert refusal(resource_type, text).kind in (Kind.INVALID, Kind.TOO_COSTLY)
