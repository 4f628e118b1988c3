"""What is met at a glance is met by the whole expression too, whatever the JSON is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.invariant import Invariant, compile_invariant
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.plan import Scope
from fhir_server.fhirpath.surely import surely

DAY = "value.where(($this is date) and ($this.toString().length() < 10)).empty()"
WORDS = r"value.text.where($this.matches('\\S').not()).empty()"

_TEXTS = st.text(alphabet=" \t\n\f\r\u00a0\u3000a-0", max_size=12) | st.sampled_from(
    ["2026", "2026-12", "2026-12-24", "2026-99-99", "2026-12-24T10:00:00Z"]
)
_VALUES = st.one_of(_TEXTS, st.none(), st.booleans(), st.integers(), st.lists(_TEXTS, max_size=2))
_OBJECTS = st.dictionaries(st.sampled_from(["text", "time", "_text"]), _VALUES, max_size=2)
_NAMES = st.sampled_from(["url", "valueDate", "_valueDate", "valueString", "valueAnnotation"])
WHO = "reference.exists() or identifier.value.exists()"
_PLACES = st.sampled_from(["reference", "_reference", "identifier", "display"])
REFERENCES = st.dictionaries(_PLACES, _VALUES | _OBJECTS, max_size=3)
TEAM = (
    "(status in ('a' | 'b')) implies careTeam.where(reference.exists() or display = 'x').exists()"
)
ONCE = "coding.where(system = 'a').count() <= 1"
VOICE = "(status = 'a') implies extension.where(url = 'a').exists()"
_WORDS = st.sampled_from(["a", "b", "x"])
_OF_REFERENCE = st.dictionaries(st.sampled_from(["reference", "display", "type"]), _WORDS)
_OF_URL = st.dictionaries(st.sampled_from(["url", "valueString"]), _WORDS)
PLANS = st.fixed_dictionaries(
    {},
    optional={
        "status": _WORDS,
        "careTeam": st.lists(_OF_REFERENCE, max_size=2),
        "extension": st.lists(_OF_URL, max_size=2),
    },
)
CODINGS = st.dictionaries(st.sampled_from(["system", "code"]), _WORDS)
CONCEPTS = st.fixed_dictionaries({}, optional={"coding": st.lists(CODINGS, max_size=3)})
EXTENSIONS = st.dictionaries(_NAMES, _VALUES | _OBJECTS, max_size=3)


@pytest.mark.parametrize(
    ("expression", "type_name", "nodes"),
    [
        (DAY, "Extension", EXTENSIONS),
        (WORDS, "Extension", EXTENSIONS),
        (WHO, "Reference", REFERENCES),
        (TEAM, "CarePlan", PLANS),
        (VOICE, "CarePlan", PLANS),
        (ONCE, "CodeableConcept", CONCEPTS),
    ],
)
def test_it_never_says_yes_alone(expression: str, type_name: str, nodes: Any) -> None:
    compiled: Invariant = compile_invariant(expression, type_name, (type_name,))
    look = surely(parse(expression), type_name)
    assert look is not None

    @given(nodes)
    def compare(extension: dict[str, Any]) -> None:
        if look(extension):
            assert compiled.holds(
                compiled._focus(extension, Scope(extension), None), Scope(extension)
            )

    compare()


def test_the_two_questions_are_recognised_and_decided() -> None:
    for expression, met, broken in (
        (DAY, {"valueDate": "2026-12-24"}, {"valueDate": "2026-12"}),
        (WORDS, {"valueAnnotation": {"text": " a"}}, {"valueAnnotation": {"text": " \n"}}),
    ):
        look = surely(parse(expression), "Extension")
        assert look is not None
        assert look(met)
        assert not look(broken)
        compiled = compile_invariant(expression, "Extension", ("Extension",))
        assert compiled(met, Scope(met))
        assert not compiled(broken, Scope(broken))


def test_other_types_and_expressions_are_left_to_the_expression() -> None:
    assert surely(parse(DAY), "Patient") is None
    assert surely(parse("value.exists()"), "Extension") is None
    assert surely(parse("value.exists() or value.empty()"), "Extension") is None
    assert surely(parse("identifier.exists() or identifier.empty()"), "Reference") is None
