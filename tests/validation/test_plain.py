"""What is taken to be right at first sight is right by the whole check, too."""

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.invariant import compile_invariant
from fhir_server.fhirpath.plan import Scope
from fhir_server.validation.bindings import accepted_codes, bound_codes
from fhir_server.validation.checker import Checker
from fhir_server.validation.narrative import is_plain, read_problem
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import ACCEPTED, MAX_STRING, PRIMITIVES, check_code
from fhir_server.validation.profiles.kept import PLAINLY_KEPT
from fhir_server.validation.profiles.values import has_pattern, pattern_test
from fhir_server.validation.report import Node, Report
from fhir_server.validation.structure import check_resource
from fhir_server.validation.targets import check_target, unless_plain
from loadtests.checking import sample
from tests.validation.profiles import found, profile
from tests.validation.test_primitives import VALID

DAYS = st.from_regex(
    r"[0-2][0-9]{3}(-[0-3][0-9](-[0-3][0-9](T10:[0-9]{2}:[0-9]{2}(Z|\+14:00))?)?)?"
)
TEXTS = st.one_of(DAYS, st.text(max_size=20), st.text(st.sampled_from("aZ0-./ \t\n\x01é\u200b")))
NARRATIVES = st.lists(
    st.sampled_from(["a", " ", "<p>", "</p>", "<b>", "</b>", "<p>a</p>", "<h7>", "&", "é", "\n"]),
    max_size=6,
).map("".join)
_DATES = ("2026-02-28", "2026-02-30", "2026-12-31", "2026")
_OBJECTS: tuple[dict[str, str | None], ...] = ({}, {"div": "a"}, {"div": None}, {"id": "a"})
VALUES = st.sampled_from([*_DATES, *_OBJECTS, None, "", "a", 5, True, [], ["a"], [{"a": "b"}]])


@pytest.mark.parametrize("type_name", ACCEPTED)
@given(value=TEXTS)
def test_an_accepted_string_is_right(type_name: str, value: str) -> None:
    if value and ACCEPTED[type_name](value):
        assert PRIMITIVES[type_name](value) is None


@pytest.mark.parametrize("type_name", ACCEPTED)
def test_common_strings_are_accepted(type_name: str) -> None:
    assert ACCEPTED[type_name](str(VALID[type_name][0]).partition("\n")[0])


@pytest.mark.parametrize("day", ["2026-02-29", "2026-02-30", "2026-04-31", "2026-13-01", "0000"])
def test_a_day_that_is_in_no_calendar_is_not_accepted(day: str) -> None:
    assert not ACCEPTED["date"](day)
    assert not ACCEPTED["dateTime"](day)


@pytest.mark.parametrize("value", ["", "a" * (MAX_STRING + 1), "a\x01", 5, None, ["a"]])
def test_no_wrong_title_passes(value: object) -> None:
    plan = {**sample(), "title": value}
    assert [issue.expression for issue in check_resource(plan)] == ["CarePlan.title"]


def test_accepted_codes_are_those_of_the_value_set() -> None:
    value_set = "http://hl7.org/fhir/ValueSet/request-status"
    accepts = accepted_codes(value_set, "code")
    assert accepts is not None
    for code in ("active", "actif", ""):
        assert bool(accepts(code)) == (bound_codes(value_set, check_code)(code) is None)


TYPES = {
    "text.`div`.exists()": "CarePlan",
    "detail.empty() or reference.empty()": "CarePlan.activity",
    "start.hasValue().not() or end.hasValue().not() or (start <= end)": "Period",
    "code.empty() or system.exists()": "Quantity",
    "value.empty() or system.exists()": "ContactPoint",
}


@pytest.mark.parametrize("expression", PLAINLY_KEPT)
@given(
    node=st.dictionaries(
        st.sampled_from(["text", "detail", "reference", "start", "end", "code", "system", "value"])
        | st.sampled_from(["_start", "_end", "_code", "_value", "_system"]),
        VALUES,
    )
)
def test_an_invariant_that_is_plainly_kept_is_met(expression: str, node: dict[str, Any]) -> None:
    if PLAINLY_KEPT[expression](node):
        resource = {"resourceType": "CarePlan"}
        assert compile_invariant(expression, TYPES[expression])(node, Scope(resource))


@pytest.mark.parametrize(
    ("expression", "node"),
    [
        ("text.`div`.exists()", {"text": {}}),
        ("detail.empty() or reference.empty()", {"detail": {"id": "a"}, "reference": {"id": "a"}}),
        (
            "start.hasValue().not() or end.hasValue().not() or (start <= end)",
            {"start": "2026-02-02", "end": "2026-02-01"},
        ),
        ("code.empty() or system.exists()", {"code": "a"}),
        ("value.empty() or system.exists()", {"value": "a"}),
    ],
)
def test_an_invariant_that_is_broken_is_not_plainly_kept(
    expression: str, node: dict[str, Any]
) -> None:
    assert not PLAINLY_KEPT[expression](node)


@pytest.mark.parametrize("targets", [(), ("Patient", "Group")])
@given(
    node=st.fixed_dictionaries(
        {"reference": st.sampled_from(["Patient/a", "Group/", "Nope/a", "Task/a", "#a", "a", 5])},
        optional={"display": VALUES, "type": VALUES, "id": VALUES, "x": VALUES},
    )
)
def test_a_reference_that_is_plainly_right_has_no_issue(
    targets: tuple[str, ...], node: dict[str, Any]
) -> None:
    place: Place = (None, "Reference")
    asked: list[Node] = []
    unless_plain(targets, lambda node, _place, _report: asked.append(node))(node, place, Report())
    if not asked:
        report = Report()
        check_target(targets)(node, place, report)
        assert not report
        basic = {"resourceType": "Basic", "code": {"text": "a"}, "author": {"display": "a"}}
        places = {str(issue.expression) for issue in check_resource({**basic, "subject": node})}
        assert not any(each.startswith("Basic.subject") for each in places)


@given(inner=NARRATIVES)
def test_a_narrative_that_is_plainly_right_is_right_when_read(inner: str) -> None:
    text = f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'
    if is_plain(text):
        assert read_problem(text) is None


def test_plain_paragraphs_need_no_reading() -> None:
    inner = "Robin <p>one</p> and <b>two</b>"
    assert is_plain(f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>')
    assert not is_plain('<div xmlns="http://www.w3.org/1999/xhtml"> </div>')


JSON = st.recursive(
    st.sampled_from([None, True, 1, "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=JSON, pattern=JSON)
def test_a_compiled_pattern_is_that_pattern(value: Any, pattern: Any) -> None:
    assert pattern_test(pattern)(value) == has_pattern(value, pattern)


SLICED: list[dict[str, Any]] = [
    {"id": "Patient.extension", "slicing": {"discriminator": [{"type": "value", "path": "url"}]}},
    {
        "id": "Patient.extension:one",
        "max": "1",
        "type": [{"code": "Extension", "profile": ["http://example.org/one"]}],
    },
]


@pytest.mark.parametrize(
    ("urls", "wrong"),
    [
        (["one"], False),
        (["one", "two"], False),
        (["two", "two"], False),
        (["one", "two", "one"], True),
    ],
)
def test_extensions_of_a_slice_are_counted(urls: list[str], wrong: bool) -> None:
    extensions = [{"url": f"http://example.org/{url}", "valueCode": "a"} for url in urls]
    patient = {"resourceType": "Patient", "extension": extensions}
    extension = {"url": "http://example.org/one", "kind": "complex-type"}
    one = {**profile("Extension"), **extension}
    expected = [("Patient.extension", "max", "error")] if wrong else []
    assert found(patient, profile("Patient", *SLICED), one) == expected


@pytest.mark.parametrize("url", [{}, {"a": "b"}, ["a"], [], 5, None])
def test_an_extension_whose_url_is_no_string_is_an_issue(url: object) -> None:
    plan = sample()
    plan["extension"][0]["url"] = url
    errors = Checker().check(plan).errors
    assert "CarePlan.extension[0].url" in {issue.expression for issue in errors}


def test_a_check_leaves_nothing_for_the_garbage_collector() -> None:
    checker, plan = Checker(), sample()
    checker.check(plan)

    def left() -> int:
        gc.collect(1)
        checker.check(plan)
        return gc.collect(1)

    # Another test's thread may be at work once, not each time.
    assert min(left() for _ in range(3)) == 0


def test_the_sample_that_is_measured_has_no_issue() -> None:
    assert not Checker().check(sample()).issues
