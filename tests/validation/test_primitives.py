"""The formats of primitives: https://hl7.org/fhir/R4/datatypes.html#primitive."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir.definitions import type_definition
from fhir_server.validation.primitives import PRIMITIVES

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">%s</div>'

VALID: dict[str, list[object]] = {
    "base64Binary": ["AAAA", "AA==", "AAA=", "AAAA\nAAAA", "+/+/"],
    "boolean": [True, False],
    "canonical": ["http://x.y/z|1.0#part"],
    "code": ["a", "a b", "a-b.c"],
    "date": ["2024", "2024-02", "2024-02-29", "0001-01-01", "9999-12-31"],
    "dateTime": [
        "2024",
        "2024-02-29",
        "2024-02-29T23:59:60Z",
        "2024-02-29T00:00:00.123456789+14:00",
    ],
    "decimal": [0, -1, Decimal("1.00"), Decimal("1e-7"), Decimal("12345678901234567890.5")],
    "id": ["a", "A-1.b", "x" * 64],
    "instant": ["2024-02-29T00:00:00Z", "2024-02-29T00:00:00.1-05:30"],
    "integer": [0, -(2**31), 2**31 - 1],
    "markdown": ["# a\n\tb\r\n"],
    "oid": ["urn:oid:1.2.840", "urn:oid:2.0"],
    "positiveInt": [1, 2**31 - 1],
    "string": ["a", " ", "é\u00a0☃", "a\tb\r\nc"],
    "time": ["00:00:00", "23:59:60", "12:00:00.5"],
    "unsignedInt": [0, 2**31 - 1],
    "uri": ["urn:x:y", "http://x.y/é"],
    "url": ["mailto:a@b"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "xhtml": [DIV % "a &amp; <b>b</b>", DIV % '<img src="#x" alt="y"/>', DIV % "<!-- c -->d"],
}
INVALID: dict[str, list[object]] = {
    "base64Binary": ["", " ", "A", "AAA", "A===", "AA-_", "é", 1],
    "boolean": ["true", 0, 1, None],
    "canonical": ["a b", ""],
    "code": ["", " a", "a ", "a  b", "a\n\nb", 1],
    "date": ["0000", "24", "2024-13", "2024-02-30", "2023-02-29", "1900-02-29", "2024-2-1", 2024],
    "dateTime": [
        "2024-02-29T10:00",
        "2024-02-29T10:00Z",
        "2024-02-29T10:00:00",
        "2024-02-29T24:00:00Z",
        "2024-02-29T10:00:00+14:01",
        "2024-02-29 10:00:00Z",
        "2024-02T10:00:00Z",
        "2023-02-29T10:00:00Z",
        "２０２４",
        "2024\n",
    ],
    "decimal": [True, "1", None, 1.5, Decimal("NaN"), Decimal("1e1001"), 10**1001, []],
    "id": ["", "a_b", "x" * 65, "é", "a\n", 1],
    "instant": ["2024-02-29", "2024-02-30T00:00:00Z", "2024-02-29T00:00Z"],
    "integer": [True, Decimal("1.0"), 2**31, -(2**31) - 1, "1", 1.0],
    "markdown": ["", 1],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1.02"],
    "positiveInt": [0, -1],
    "string": ["", "a\x00", "a\x0b", "\x1f", None, ["a"], "x" * (1024 * 1024 + 1)],
    "time": ["24:00:00", "10:00", "10:00:00Z"],
    "unsignedInt": [-1],
    "uri": ["", "a b", "a\n"],
    "url": ["http://x y"],
    "uuid": [
        "c757873d-ec9a-4326-a141-556f43239520",
        "urn:uuid:C757873D-EC9A-4326-A141-556F43239520",
    ],
    "xhtml": [
        "",
        "text",
        "<div>a</div>",
        '<p xmlns="http://www.w3.org/1999/xhtml">a</p>',
        DIV % "",
        DIV % "<script>alert(1)</script>",
        DIV % '<p onclick="x()">a</p>',
        DIV % "a &nbsp;",
        DIV % "<b>a",
        "<!DOCTYPE div [<!ENTITY a 'b'>]>" + DIV % "&a;",
        '<?xml version="1.0"?>' + DIV % "a",
        DIV % "\ud800",
        1,
    ],
}


def test_every_primitive_of_the_standard_has_a_check_and_cases() -> None:
    assert set(PRIMITIVES) == set(VALID) == set(INVALID)
    assert all(type_definition(name).kind == "primitive" for name in PRIMITIVES)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in VALID.items() for value in values]
)
def test_a_right_value_has_no_problem(name: str, value: object) -> None:
    assert PRIMITIVES[name](value) is None


@pytest.mark.parametrize("name", INVALID)
def test_a_wrong_value_is_told(name: str) -> None:
    for value in INVALID[name]:
        problem = PRIMITIVES[name](value)
        assert problem is not None, value
        assert problem.startswith("must "), problem
        assert len(problem) < 250


@given(st.sampled_from(sorted(PRIMITIVES)), st.text() | st.integers() | st.decimals())
def test_no_value_makes_a_check_raise(name: str, value: object) -> None:
    problem = PRIMITIVES[name](value)
    assert problem is None or problem
