"""What repeats another problem waits for it, and only that does."""

from typing import Any, Final

import pytest

from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation.checker import Checker, Findings
from fhir_server.validation.echoes import told_once
from fhir_server.validation.report import Note
from tests.validation.profiles import URL, checker, profile

Json = dict[str, Any]
PROFILE: Final = "http://example.org/StructureDefinition/a"
OTHER: Final = "http://example.org/StructureDefinition/b"


def example(name: str, **changes: Any) -> Json:
    found: Json = json.decode_resource((PROFILES / name).read_bytes())
    return {key: value for key, value in {**found, **changes}.items() if value is not None}


def told(resource: Json, *definitions: Json) -> list[tuple[str | None, str | None]]:
    given = checker(*definitions) if definitions else Checker()
    found = given.check(resource, profiles=[each["url"] for each in definitions]).errors
    return [(each.expression, each.rule) for each in found]


def test_an_invariant_of_r4_waits_for_what_a_profile_needs() -> None:
    """ppc-1 asks for a policy or a policyRule, the profile for the policyRule."""
    consent = example("kw-consent/examples/valid-parental.json", policyRule=None)
    assert told(consent) == [("Consent.policyRule", "min")]


def test_it_does_not_where_that_only_warns() -> None:
    consent = example("kw-consent/examples/valid-parental.json", policyRule=None, meta=None)
    needing = profile("Consent", {"id": "Consent.policyRule", "min": 1})
    findings = checker(needing, lenient=(URL,)).check(consent, profiles=[URL])
    assert [each.rule for each in findings.errors] == ["ppc-1"]


def _needs(number: int) -> Json:
    """An extension that an invariant needs."""
    return {
        "key": f"own-{number}",
        "severity": "error",
        "human": f"needs {number}",
        "expression": f"extension.where(url = 'http://example.org/{number}').value.exists()",
    }


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ([{"url": "http://example.org/1"}], ["ext-1", "own-2"]),
        ([{"url": "http://example.org/1"}, {"url": "http://example.org/2"}], ["ext-1", "ext-1"]),
        ([{"url": "http://example.org/3"}], ["ext-1", "own-1", "own-2"]),
        ([{"url": 3, "valueCode": "x"}], [None]),
        ({"url": "http://example.org/1"}, [None]),
    ],
)
def test_an_invariant_about_one_extension_waits_for_that_one_alone(
    given: Any, rules: list[str | None]
) -> None:
    """And for one whose url cannot be read, which may be that one."""
    needing = profile("Patient", {"id": "Patient", "constraint": [_needs(1), _needs(2)]})
    patient = {"resourceType": "Patient", "extension": given}
    assert [rule for _, rule in told(patient, needing)] == rules


def test_of_two_values_that_are_missed_one_that_cannot_be_read_stands_for_one() -> None:
    consent = example("kw-consent/examples/valid-parental.json")
    access, kind = consent["category"]
    unread = {"coding": [{**access["coding"][0], "system": None}]}
    place = "Consent.category[0].coding[0].system"
    assert told({**consent, "category": [unread, kind]}) == [(place, None)]
    assert told({**consent, "category": [unread]}) == [(place, None), ("Consent.category", "min")]
    (_, missed) = Checker().check({**consent, "category": [unread]}).errors
    assert "of the slice kind" in missed.text


def _message() -> Json:
    return example("kw-event-message/examples/valid-admission.json")


def test_an_address_that_nothing_answers_is_told_once_with_all_who_refer_to_it() -> None:
    message = _message()
    del message["entry"][4]["fullUrl"]
    (issue,) = Checker().check(message).errors
    assert issue.expression == "Bundle.entry[0].resource.sender.reference"
    also = "; it is also referred to at Bundle.entry[1].resource.serviceProvider.reference"
    assert issue.text.endswith(also)


def test_an_entry_that_cannot_be_read_stands_for_one_address_and_not_for_two() -> None:
    message = _message()
    message["entry"][4]["fullUrl"] = None
    assert [place for place, _ in told(message)] == ["Bundle.entry[4].fullUrl"]
    del message["entry"][3]["fullUrl"]
    assert len(told(message)) == 2


def test_a_reference_that_cannot_be_read_may_be_the_one_to_what_is_contained() -> None:
    contained = [{"resourceType": "Patient", "id": name} for name in ("a", "b")]
    flag = example("kw-rating-flag/examples/valid-blue.json", meta=None, contained=contained)
    broken = {**flag, "subject": 5}
    places = [issue for issue, _ in told(broken, profile("Flag"))]
    assert places == ["Flag.subject", "Flag.contained[1]"]


# The rule itself -------------------------------------------------------------------------------


def issue(rule: str, severity: str = "error", profile_: str = PROFILE, text: str = "x") -> Issue:
    return Issue(text, "Patient.name", "value", severity, rule, profile_)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (issue("binding"), issue("pattern", profile_=OTHER), 1),
        (issue("binding", "error"), issue("pattern", "warning"), 0),
        (issue("binding", "warning"), issue("binding", "error", OTHER, "y"), 1),
        (issue("min", "warning"), issue("min", "error", OTHER), 1),
    ],
)
def test_of_one_value_the_gravest_is_told_and_what_says_most(
    first: Issue, second: Issue, kept: int
) -> None:
    assert told_once([first, second], {}) == [(first, second)[kept]]
    assert told_once([second, first], {}) == [(first, second)[kept]]


def test_the_number_of_a_slice_is_told_before_that_of_its_element() -> None:
    of_slice, of_all = issue("min", text="slice a"), issue("min", profile_=OTHER, text="missing")
    both = [of_slice, issue("min", text="slice b"), of_all]
    assert told_once(both, {0: Note(part="a"), 1: Note(part="b")}) == both[:2]
    assert told_once([of_all, issue("max", text="many")], {}) == [of_all, issue("max", text="many")]


def test_what_open_questions_come_to_is_told_unless_something_as_grave_is() -> None:
    slices = (issue("min", text="slice a"), issue("min", text="slice b"))
    told_, grave = issue("binding", "warning"), issue("binding", "error", OTHER, "y")
    findings = Findings((*slices, told_), ())
    assert set(findings.settled([grave]).issues) == {*slices, grave}
    assert set(findings.settled([issue("binding", "warning", OTHER)]).issues) == {*slices, told_}


def test_no_two_rules_wait_for_each_other() -> None:
    """Each looks at the value of which the other is a rule: both are told."""
    rules = {
        "key": "own-1",
        "severity": "error",
        "human": "as asked",
        "expression": "%resource.contact.name.exists() and false",
    }
    both = profile(
        "Patient",
        {"id": "Patient.contact", "constraint": [rules]},
        {"id": "Patient.contact.name", "constraint": [{**rules, "key": "own-2"}]},
    )
    patient = {"resourceType": "Patient", "contact": [{"name": {"text": "x"}}]}
    assert told(patient, both)
