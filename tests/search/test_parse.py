"""Searches as they stand in an address: what is not understood is refused, with its place.

https://hl7.org/fhir/R4/search.html#errors
"""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.ast import (
    And,
    DateCompares,
    Everything,
    IdIn,
    Include,
    Missing,
    Not,
    Nothing,
    Or,
    Prefix,
    SortKey,
    TokenIs,
)
from fhir_server.search.composites import composites
from fhir_server.search.extract import indexed_parameters
from fhir_server.search.parse import Limits, SearchRequest, parse, parse_criteria
from tests.storage.questions import BASE, NOW

Pairs = list[tuple[str, str]]


def search(resource_type: str, *pairs: tuple[str, str], **options: Any) -> SearchRequest:
    return parse(resource_type, list(pairs), base=BASE, now=NOW, **options)


def refusal(resource_type: str, *pairs: tuple[str, str], **options: Any) -> FhirError:
    with pytest.raises(FhirError) as caught:
        search(resource_type, *pairs, **options)
    return caught.value


def assert_refused(resource_type: str, name: str, value: str, *says: str) -> None:
    """One issue that names the parameter and says what is wrong or allowed."""
    error = refusal(resource_type, (name, value))
    assert error.kind is Kind.INVALID
    (issue,) = error.issues
    assert issue.expression == f"http.{name}"
    for text in says:
        assert text in issue.text, issue.text


REFUSED: Final = [
    # Unknown parameters
    ("Patient", "nmae", "x", ("'nmae' is not a search parameter of Patient", "name")),
    ("Patient", "status", "x", ("not a search parameter of Patient",)),
    ("Patient", "", "x", ("not a search parameter",)),
    ("Bundle", "_text", "x", ("not a search parameter of Bundle", "_content")),
    ("Observation", "code-value-quantity", "a", ("1 of 2 parts", "code$value-quantity")),
    ("Observation", "code-value-quantity", "a$1$2", ("3 of 2 parts",)),
    ("Observation", "code-value-quantity", "a$five", ("not a prefix",)),
    ("Observation", "code-value-quantity", "$5", ("code is empty",)),
    ("Observation", "code-value-quantity:not", "a$5", ("':not'", ":missing")),
    ("Observation", "_sort", "code-value-quantity", ("composite",)),
    ("Patient", "$where", "1", ("not a search parameter",)),
    # Chains
    ("Patient", "name.family", "x", ("'name' is not a reference parameter of Patient",)),
    ("CarePlan", "subject.", "x", ("ends before the parameter",)),
    ("CarePlan", "subject:.name", "x", ("'' is not a resource type",)),
    ("CarePlan", "subject:Dragon.name", "x", ("'Dragon' is not a resource type",)),
    ("CarePlan", "subject:Location.name", "x", ("never refers to a Location", "Patient")),
    ("CarePlan", "subject:Patient.nmae", "x", ("'nmae' is not a search parameter of Patient",)),
    ("CarePlan", "subject.nmae", "x", ("'nmae' is not a search parameter of Group or Patient",)),
    ("CarePlan", "patient.birthdate", "soon", ("'soon' is not a prefix",)),
    ("CarePlan", "patient.name:near", "x", ("':near' is not a modifier",)),
    ("CarePlan", "patient._sort", "name", ("_sort",)),
    ("CarePlan", "instantiates-canonical:Patient.name", "x", ("never refers to a Patient",)),
    ("Library", "depends-on:Patient.name", "x", ("never refers to a Patient",)),
    ("Patient", "_has:Library:depends-on:name", "x", ("never refers to a Patient",)),
    ("Patient", "_has", "x", ("_has:Type:parameter:criterion",)),
    ("Patient", "_has:Observation:patient", "x", ("_has:Type:parameter:criterion",)),
    ("Patient", "_has:Dragon:patient:code", "x", ("'Dragon' is not a resource type",)),
    ("Patient", "_has:Observation:code:code", "x", ("not a reference parameter of Observation",)),
    ("Location", "_has:CarePlan:patient:status", "x", ("never refers to a Location",)),
    ("Patient", "_has:CarePlan:patient:stauts", "x", ("not a search parameter of CarePlan",)),
    # Modifiers
    ("Patient", "name:near", "x", ("':near' is not a modifier", ":exact", ":contains", ":missing")),
    ("Patient", "gender:exact", "male", ("':exact'", ":not", ":missing")),
    ("Patient", "birthdate:not", "2010", ("':not'", ":missing")),
    ("Observation", "value-quantity:contains", "5", ("':contains'",)),
    ("ValueSet", "url:exact", "http://x", ("':exact'", ":above", ":below")),
    ("ValueSet", "url:below", "urn:oid:1.2", ("no URL",)),
    ("ValueSet", "url:above", "1.2", ("no URL",)),
    ("ValueSet", "url:above", "http://x" + "/y" * 41, ("slashes",)),
    ("CarePlan", "subject:above", "x", ("':above'", ":identifier", ":Type")),
    ("CarePlan", "subject:identifier", "", ("has no value",)),
    ("Patient", "gender:text", "x", ("no text beside its codes",)),
    ("Condition", "code:text", " ", ("empty",)),
    ("Condition", "code:of-type", "a|b|c", ("it is no identifier",)),
    ("Patient", "identifier:of-type", "a|b", ("system|code|value",)),
    ("Patient", "identifier:of-type", "a||c", ("system|code|value",)),
    ("Condition", "code:in", "x", ("'x' is not a value set", "ValueSet/id")),
    ("Condition", "code:in", "CodeSystem/x", ("not the address of a ValueSet",)),
    ("Condition", "code:in", f"{BASE}/CodeSystem/x", ("not the address of a ValueSet",)),
    ("Condition", "code:not-in", "ValueSet/x/_history/1", ("not the address of a ValueSet",)),
    ("Condition", "code:not-in", "ValueSet/x|1", ("is not a value set",)),
    ("Condition", "code:above", "x", ("system|code",)),
    ("Condition", "code:below", "|x", ("system|code",)),
    ("Condition", "code:below", "http://s|", ("system|code",)),
    ("Patient", "active:in", "http://vs", ("its values are no codes of a code system",)),
    ("Patient", "identifier:below", "s|x", ("its values are no codes of a code system",)),
    ("Patient", "name:in", "http://vs", ("not a modifier", ":exact")),
    ("Patient", "birthdate:not-in", "http://vs", ("not a modifier", ":missing")),
    ("Observation", "value-quantity:in", "http://vs", ("not a modifier", ":missing")),
    ("Patient", "organization:in", "http://vs", ("not a modifier", ":identifier")),
    ("Patient", "_id:in", "http://vs", (":not and :missing are",)),
    ("Location", "near", "51.5", ("latitude|longitude",)),
    ("Location", "near", "1|2|3|km|5", ("latitude|longitude",)),
    ("Location", "near", "north|2", ("'north' is not in degrees", "-90 to 90")),
    ("Location", "near", "90.001|2", ("-90 to 90",)),
    ("Location", "near", "NaN|2", ("'NaN'",)),
    ("Location", "near", "1|-180.5", ("-180 to 180",)),
    ("Location", "near", "1|", ("'' is not in degrees",)),
    ("Location", "near", "1|2|-1", ("'-1' is not a distance",)),
    ("Location", "near", "1|2|far", ("'far' is not a distance",)),
    ("Location", "near", "1|2|3|mi", ("'mi' is not a unit", "[mi_i]")),
    ("Location", "near:in", "http://vs", ("not a modifier", ":missing")),
    ("Location", "_sort", "near", ("'near' has no order",)),
    ("Patient", "near", "1|2", ("not a search parameter",)),
    ("CarePlan", "subject:Dragon", "1", ("':Dragon'", ":Type")),
    ("CarePlan", "subject:Location", "1", ("Location", ":Patient")),
    ("CarePlan", "subject:Patient", "Group/1", ("Group/1", "Patient")),
    ("Patient", "_id:exact", "1", ("':exact'", ":not")),
    ("Patient", "name:", "x", ("modifier",)),
    ("Patient", "name:exact:missing", "x", ("'exact:missing'"[1:-1],)),
    ("Patient", "_sort:asc", "name", ("modifier",)),
    ("Patient", "_include:recurse", "Patient:organization", (":iterate",)),
    ("Patient", "_include:iterate", "Patient:name", ("not a reference parameter",)),
    # Values
    ("Patient", "name", "", ("has no value",)),
    ("Patient", "name", " ", ("empty",)),
    ("Patient", "name", "\u0301", ("empty",)),
    ("Patient", "name", "a,", ("empty",)),
    ("Patient", "gender", "male,,female", ("empty",)),
    ("Patient", "gender", "|", ("system|code",)),
    ("Patient", "gender:missing", "yes", ("true or false",)),
    ("Patient", "gender:missing", "true,false", ("true or false",)),
    ("Patient", "birthdate", "yesterday", ("not a prefix", "eq, ne, gt")),
    ("Patient", "birthdate", "bf2010", ("'bf' is not a prefix", "eq, ne, gt")),
    ("Patient", "birthdate", "GT2010", ("'GT' is not a prefix",)),
    ("Patient", "birthdate", "2010-13", ("'2010-13' is not a date", "YYYY-MM-DD")),
    ("Patient", "birthdate", "2010-02-29", ("not a date",)),
    ("Patient", "birthdate", "0000", ("not a date",)),
    ("Patient", "birthdate", "10000", ("not a date",)),
    ("Patient", "birthdate", "2010-01-01T24:00", ("not a date",)),
    ("Patient", "birthdate", "2010-01-01T10", ("not a date",)),
    ("Patient", "birthdate", "2010-01-01T10:00+15:00", ("not a date",)),
    ("Patient", "birthdate", "٢٠١٠", ("not a date",)),
    ("Patient", "birthdate", "gt", ("not a date",)),
    ("ChargeItem", "factor-override", "1,000,x", ("not a prefix",)),
    ("ChargeItem", "factor-override", "0x10", ("not a number",)),
    ("ChargeItem", "factor-override", "NaN", ("not a prefix",)),
    ("ChargeItem", "factor-override", "1e99999", ("not a number",)),
    ("ChargeItem", "factor-override", "1_000", ("not a number",)),
    ("ChargeItem", "factor-override", "9" * 50, ("not a number",)),
    ("Observation", "value-quantity", "5|kg", ("number|system|code",)),
    ("Observation", "value-quantity", "5|http://unitsofmeasure.org|", ("number|system|code",)),
    ("Observation", "value-quantity", "|http://unitsofmeasure.org|kg", ("not a number",)),
    ("Patient", "_id", "a/b", ("'a/b' is not an id",)),
    ("Patient", "_id", "system|a", ("not an id",)),
    ("Patient", "_id", "a" * 65, ("not an id",)),
    ("CarePlan", "subject", "Dragon/1", ("not a reference", "Type/id")),
    ("CarePlan", "subject", "../1", ("not a reference",)),
    # How it is answered
    ("Patient", "_count", "ten", ("whole number",)),
    ("Patient", "_count", "-1", ("whole number",)),
    ("Patient", "_count", "٣", ("whole number",)),
    ("Patient", "_count", "1" * 10, ("whole number",)),
    ("Patient", "_total", "all", ("none, estimate or accurate",)),
    ("Patient", "_summary", "most", ("true, text, data, count, false",)),
    ("Patient", "_elements", "colour", ("is not an element of Patient", "birthDate")),
    ("Patient", "_elements", "name.family", ("an element of the resource itself",)),
    ("Patient", "_sort", "nmae", ("not a search parameter", "name")),
    ("Patient", "_sort", "name,,birthdate", ("not a search parameter",)),
    ("Patient", "_sort", "--name", ("not a search parameter",)),
    ("Patient", "_include", "Patient", ("Source:parameter",)),
    ("Patient", "_include", "*:organization", ("'*' is not a resource type",)),
    (
        "Patient",
        "_include",
        "Patient:name",
        ("'name' is not a reference parameter", "organization"),
    ),
    ("Patient", "_include", "Dragon:x", ("'Dragon' is not a resource type",)),
    ("Patient", "_revinclude", "CarePlan:subject:Dragon", ("'Dragon' is not a resource type",)),
]


@pytest.mark.parametrize(
    ("resource_type", "name", "value", "says"),
    REFUSED,
    ids=[f"{r[1]}={r[2][:20]}" for r in REFUSED],
)
def test_refuses_with_the_parameter_and_what_is_allowed(
    resource_type: str, name: str, value: str, says: tuple[str, ...]
) -> None:
    assert_refused(resource_type, name, value, *says)


@pytest.mark.parametrize(
    ("resource_type", "name", "value"),
    [case[:3] for case in REFUSED],
    ids=[f"{case[1]}={case[2][:20]}" for case in REFUSED],
)
def test_lenient_handling_leaves_it_out_and_says_so(
    resource_type: str, name: str, value: str
) -> None:
    asked = search(resource_type, ("_id", "a"), (name, value), lenient=True)
    assert asked.query.where == IdIn(("a",))
    assert list(asked.used) == [("_id", "a")]
    (issue,) = asked.ignored
    assert (issue.expression, issue.severity) == (f"http.{name}", "warning")
    assert issue.text.startswith("Ignored: ")


def test_names_every_wrong_parameter_at_once() -> None:
    error = refusal("Patient", ("nmae", "x"), ("gender", "male"), ("birthdate", "x"))
    assert [issue.expression for issue in error.issues] == ["http.nmae", "http.birthdate"]


def test_what_is_not_supported_says_so_by_its_code() -> None:
    asked = (("_contained", "true"), ("_text", "tea"))
    assert [issue.code for issue in refusal("CarePlan", *asked).issues] == ["not-supported"]


# Limits


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "pairs",
    [
        [("gender", ",".join("x" * 1001))],
        [("gender", ",".join("x" * 501)), ("name", ",".join("x" * 500))],
        [("gender", "x")] * 101,
        [("target", ",".join(f"id{n}" for n in range(1000)))],
    ],
    ids=["values of one", "values of all", "parameters", "ids of any type"],
)
def test_a_search_that_is_too_wide_is_too_costly_and_never_silently_wider(
    pairs: Pairs, lenient: bool
) -> None:
    resource_type = "Provenance" if pairs[0][0] == "target" else "Patient"
    error = refusal(resource_type, *pairs, lenient=lenient)
    assert error.kind is Kind.TOO_COSTLY
    assert "allowed" in str(error) or "Type/id" in str(error)


def test_as_many_values_as_are_allowed_are_taken() -> None:
    where = search("Patient", ("gender", ",".join("x" * 1000))).query.where
    assert isinstance(where, Or)
    assert len(where.nodes) == 1000


@pytest.mark.parametrize(
    ("asked", "count", "total"),
    [([], 50, False), (["7"], 7, False), (["100000000"], 1000, False), (["0"], 0, True)],
)
def test_page_sizes_are_bounded(asked: list[str], count: int, total: bool) -> None:
    found = search("Patient", *(("_count", value) for value in asked))
    assert (found.count, found.total) == (count, total)


def test_limits_can_be_set() -> None:
    limits = Limits(default_count=3, max_count=5, max_values=2, max_parameters=2)
    assert search("Patient", limits=limits).count == 3
    assert search("Patient", ("_count", "9"), limits=limits).count == 5
    assert refusal("Patient", ("gender", "a,b,c"), limits=limits).kind is Kind.TOO_COSTLY


# Meaning


def test_no_criteria_mean_everything() -> None:
    assert search("Patient").query.where == Everything()


def test_commas_are_or_repeats_are_and() -> None:
    where = search("Patient", ("gender", "male,female"), ("active", "true")).query.where
    assert where == And(
        (
            Or((TokenIs("gender", None, "male"), TokenIs("gender", None, "female"))),
            TokenIs("active", None, "true"),
        )
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("c", TokenIs("code", None, "c")),
        ("s|c", TokenIs("code", "s", "c")),
        ("|c", TokenIs("code", "", "c")),
        ("s|", TokenIs("code", "s", None)),
        (r"a\|b", TokenIs("code", None, "a|b")),
        (r"a\,b", TokenIs("code", None, "a,b")),
        (r"a\\", TokenIs("code", None, "a\\")),
        (r"a\$b", TokenIs("code", None, "a$b")),
    ],
)
def test_tokens_in_their_forms(value: str, expected: TokenIs) -> None:
    assert search("Observation", ("code", value)).query.where == expected


@pytest.mark.parametrize("prefix", list(Prefix))
def test_every_prefix_is_known(prefix: Prefix) -> None:
    where = search("Patient", ("birthdate", f"{prefix.value}2010")).query.where
    assert isinstance(where, DateCompares)
    assert where.prefix is prefix


def test_a_plus_that_arrives_as_a_space_is_a_plus() -> None:
    plus = search("Patient", ("_lastUpdated", "2026-01-01T00:00:00+01:00")).query
    assert search("Patient", ("_lastUpdated", "2026-01-01T00:00:00 01:00")).query == plus


def test_missing_and_not() -> None:
    assert search("Patient", ("gender:missing", "true")).query.where == Missing("gender", "token")
    absent = search("Patient", ("gender:missing", "false")).query.where
    assert absent == Not(Missing("gender", "token"))
    assert search("Patient", ("gender:not", "male")).query.where == Not(
        TokenIs("gender", None, "male")
    )
    assert search("Patient", ("_id:missing", "true")).query.where == Nothing()


def test_how_it_is_answered() -> None:
    found = search(
        "CarePlan",
        ("_sort", "-date,_id,status"),
        ("_include", "CarePlan:subject:Patient"),
        ("_revinclude", "Task:focus"),
        ("_total", "accurate"),
        ("_format", "json"),
    )
    assert found.query.sort == (
        SortKey("date", "date", True),
        SortKey("_id", "token"),
        SortKey("status", "token"),
    )
    assert found.includes == (
        Include("CarePlan", "subject", "Patient"),
        Include("Task", "focus", None, reverse=True),
    )
    assert found.total
    assert [name for name, _ in found.used] == ["_sort", "_include", "_revinclude", "_total"]


@pytest.mark.parametrize("resource_type", resource_types())
def test_every_indexed_parameter_can_be_searched_and_sorted_by(resource_type: str) -> None:
    samples = {"date": "2026", "number": "1", "quantity": "1", "reference": "a", "uri": "urn:x"}
    for code, parameter in indexed_parameters(resource_type).items():
        if parameter.type == "special":
            search(resource_type, (code, "51.5|-0.1"))
        elif parameter.type == "composite":
            parts = [
                samples.get(one.type, "x") for one in composites(resource_type)[code].components
            ]
            search(resource_type, (code, "$".join(parts)))
        else:
            search(resource_type, (code, samples.get(parameter.type, "x")), ("_sort", f"-{code}"))


# Criteria of conditions


def test_a_condition_needs_criteria() -> None:
    for pairs in ([], [("_format", "json")], [("_id:missing", "false")]):
        with pytest.raises(FhirError, match="no search criteria"):
            parse_criteria("Patient", pairs, base=BASE, now=NOW)


@pytest.mark.parametrize("name", ["_sort", "_count", "_include", "_include:iterate", "_total"])
def test_a_condition_takes_no_result_parameters(name: str) -> None:
    with pytest.raises(FhirError) as caught:
        parse_criteria("Patient", [("_id", "a"), (name, "1")], base=BASE, now=NOW)
    assert [issue.expression for issue in caught.value.issues] == [f"http.{name}"]


# Whatever comes


names: Final = st.one_of(
    st.text(max_size=20),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(
                [*indexed_parameters("Observation"), "_id", "_sort", "_count", "_include", "_total"]
            ),
            st.sampled_from(["", ":", ":missing", ":not", ":exact", ":Patient", ":x", ".name"]),
        ),
    ),
)
pieces: Final = st.sampled_from(
    (
        *("eq", "ap", "sa", "-", "+", " ", ",", "|", "\\", "$", ":", "/", ".", "T", "Z", "e9", "1"),
        *("2026-01-01", "0000", "9999", "99999", "00:00", "http://x", "Patient", "true"),
        *("\x00", "\U0010ffff"),
    )
)
values: Final = st.text(max_size=30) | st.lists(pieces, max_size=8).map("".join)


@given(st.lists(st.tuples(names, values), max_size=4))
def test_any_text_is_understood_or_refused(pairs: Pairs) -> None:
    lenient = search("Observation", *pairs, lenient=True)
    assert len(lenient.used) + len(lenient.ignored) <= len(pairs)
    if lenient.ignored:
        error = refusal("Observation", *pairs)
        assert error.kind is Kind.INVALID
        assert all(issue.expression for issue in error.issues)
    else:
        assert search("Observation", *pairs) == lenient


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("_count", ("1", "2")),
        ("_sort", ("family", "given")),
        ("_total", ("none", "accurate")),
        ("_summary", ("true", "false")),
        ("_contained", ("true", "false")),
        ("_containedType", ("container", "contained")),
    ],
)
def test_of_two_that_cannot_both_hold_none_is_dropped(name: str, values: tuple[str, str]) -> None:
    error = refusal("Patient", *((name, value) for value in values))
    assert [issue.text for issue in error.issues] == [f"'{name}' stands twice; it may stand once"]
    assert error.issues[0].expression == f"http.{name}"
