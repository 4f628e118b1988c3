"""JSON in and out: https://hl7.org/fhir/R4/json.html. The oracle is Python's own json."""

import json as stdlib_json
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import (
    MAX_DEPTH,
    Template,
    decode,
    decode_members,
    decode_resource,
    encode,
)


def refusal(raw: bytes) -> str:
    with pytest.raises(FhirError) as caught:
        decode_resource(raw)
    assert caught.value.kind is Kind.MALFORMED
    (issue,) = caught.value.issues
    return issue.text


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "array"),
        (b'"Patient"', "string"),
        (b"1", "number"),
        (b"1.5", "number"),
        (b"true", "boolean"),
        (b"null", "null"),
        (b"{", "line 1"),
        (b'{"a": }', "line 1, column 7"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"b": 2}', "not valid JSON"),
        (b'{"a": 01}', "not valid JSON"),
        (b'{"a": .5}', "not valid JSON"),
        (b'{"a": 1.}', "not valid JSON"),
        (b'{"a": +1}', "not valid JSON"),
        (b'{"a": 0x10}', "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": Infinity}', "not valid JSON"),
        (b'{"a": -Infinity}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": "\xc0\x80"}', "not valid JSON"),
        (b'{"a": "\xed\xa0\x80"}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": "\\udc00"}', "not valid JSON"),
        (b'{"a": "\\ud800\\u0041"}', "not valid JSON"),
        (b'{"\\ud800": 1}', "not valid JSON"),
        (b'{"a": "\x00"}', "not valid JSON"),
        (b'{"a": "\n"}', "not valid JSON"),
        (b'{"a": "\\x41"}', "not valid JSON"),
        (b'{"a": 1e99999999999999999999}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": 1 /* no */}', "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
        (b'{"resourceType": "Patient", "resourceType": "Group"}', "'resourceType' stands twice"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "'b' stands twice"),
        (b'{"a": [{"b": 1, "\\u0062": 2}]}', "'b' stands twice"),
        (b'{"a": 1, "a": 1}', "'a' stands twice"),
        (b'{"": 1, "": 2}', "'' stands twice"),
    ],
)
def test_what_is_not_strict_json_is_refused(raw: bytes, says: str) -> None:
    assert says in refusal(raw)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_depth_is_bounded(opening: bytes) -> None:
    def nested(levels: int) -> bytes:
        closing = b"]" if opening == b"[" else b"}"
        return opening * levels + b"1" + closing * levels

    assert decode(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 1_000, 100_000):
        with pytest.raises(FhirError, match=f"nested deeper than {MAX_DEPTH} levels"):
            decode(nested(levels))


def test_brackets_in_texts_are_no_depth() -> None:
    assert decode(stdlib_json.dumps({"a": "[{" * 500}).encode()) == {"a": "[{" * 500}


bracketed = st.sampled_from(("", "a", '"', "[", "]", "{}", "\\", "x[y", "}{", '["]'))
nested = st.recursive(
    st.one_of(st.none(), st.integers(), bracketed),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(bracketed, inner)),
    max_leaves=30,
)


@settings(max_examples=150)
@given(st.lists(nested, min_size=3), st.integers(1, 12))
def test_the_bound_is_kept_to_the_level_whatever_texts_hold(value: Any, most: int) -> None:
    raw = stdlib_json.dumps(value).encode()
    if _levels(value) <= most:
        assert decode(raw, most) == value
    else:
        with pytest.raises(FhirError, match=f"nested deeper than {most} levels"):
            decode(raw, most)


def _levels(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_levels, inner), default=0)


@pytest.mark.parametrize(
    "digits",
    [
        "1.0",
        "1.00",
        "100.000",
        "0.10",
        "-0.0",
        "0.000001",
        "123456789012345678901234567890.123456789012345678901234567890",
        "3.14159265358979323846264338327950288419716939937510",
    ],
)
def test_decimals_keep_their_digits(digits: str) -> None:
    raw = f'{{"value":{digits}}}'.encode()
    assert encode(decode_resource(raw)) == raw


@pytest.mark.parametrize("digits", ["1e400", "-1E-400", "1.50e10", "1E+2", "1e400000", "0.0000001"])
def test_exponents_keep_their_value_and_precision(digits: str) -> None:
    again = stdlib_json.loads(encode(decode(digits.encode())), parse_float=Decimal)
    assert Decimal(again).as_tuple() == Decimal(digits).as_tuple()


@pytest.mark.parametrize("digits", ["0", "-1", "9007199254740993", "1" + "0" * 400])
def test_whole_numbers_stay_exact(digits: str) -> None:
    assert encode(decode(digits.encode())) == digits.encode()


def test_pairs_of_surrogates_are_characters() -> None:
    assert decode(rb'"\ud83d\ude00"') == "\N{GRINNING FACE}"


texts: Final = st.text()
leaves: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.decimals(allow_nan=False, allow_infinity=False).filter(
        lambda number: -300 < number.adjusted() < 300
    )
)
trees: Final = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(trees)
@example({"a": Decimal("1E+2"), "b": [Decimal("1.00")]})
def test_what_is_written_is_what_json_reads(tree: Any) -> None:
    raw = encode(tree)
    assert same(stdlib_json.loads(raw, parse_float=Decimal), tree)
    assert same(decode(raw), tree)
    assert encode(decode(raw)) == raw


@given(trees, st.booleans(), st.sampled_from([None, 0, 3]))
def test_what_json_writes_is_read(tree: Any, ascii_only: bool, indent: int | None) -> None:
    plain = stdlib_json.loads(encode(tree))
    raw = stdlib_json.dumps(plain, ensure_ascii=ascii_only, indent=indent).encode()
    expected = stdlib_json.loads(raw, parse_float=Decimal)
    assert decode(raw) == expected


@given(st.binary(max_size=40) | st.text('{}[]",:0e.-\\u tfn', max_size=30).map(str.encode))
def test_any_bytes_are_read_as_json_reads_them_or_refused(raw: bytes) -> None:
    try:
        value = decode(raw)
    except FhirError:
        return
    assert value == stdlib_json.loads(raw, parse_float=Decimal)


def same(one: Any, other: Any) -> bool:
    """Equal, also in the digits of decimals, and as true, 1 and 1.0 differ."""
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return one.compare_total(other) == 0 or one == other == 0 or one == other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


# What is stored


@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"meta": {}},
        {"meta": {"versionId": "old", "lastUpdated": "old"}},
        {"meta": {"versionId": "old", "profile": ["http://p"]}, "active": True},
        {"name": [{"family": '"}\\%d%b'}]},
    ],
)
def test_a_template_is_the_resource_with_version_and_time(rest: dict[str, Any]) -> None:
    resource = {"resourceType": "Patient", "id": "a", **rest}
    rendered = decode_resource(Template(resource).render(7, "2026-01-01T00:00:00.000000Z"))
    meta = rest.get("meta", {}) | {
        "versionId": "7",
        "lastUpdated": "2026-01-01T00:00:00.000000Z",
    }
    assert rendered == {**resource, "meta": meta}
    assert list(rendered)[:3] == ["resourceType", "id", "meta"]


def test_some_members_of_an_object_are_read_and_the_others_passed_over() -> None:
    raw = b'{"class":{"a":1.50},"id":"x","for":[null],"other":{"class":2}}'
    assert decode_members(raw, ("class", "for", "absent")) == {
        "class": {"a": Decimal("1.50")},
        "for": [None],
    }
