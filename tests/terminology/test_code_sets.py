"""Sets of codes against sets of Python, over all codes that could tell them apart."""

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.search.ast import Nothing, TokenIn
from fhir_server.search.match import satisfies
from fhir_server.search.values import TokenValue
from fhir_server.terminology.codes import CodeSet, Members, listed, whole

SYSTEMS = ("", "http://s/1", "http://s/2")
CODES = ("a", "b", "c", "never listed")
UNIVERSE = {TokenValue(system, code) for system in SYSTEMS for code in CODES}

members = st.builds(Members, st.frozensets(st.sampled_from(CODES[:3])), st.booleans())
code_sets = st.builds(CodeSet, st.dictionaries(st.sampled_from(SYSTEMS), members))


def spelt_out(codes: CodeSet) -> set[TokenValue]:
    return {
        value
        for value in UNIVERSE
        if value.system in codes.systems
        and (value.code in codes.of(value.system).codes) != codes.of(value.system).every
    }


@given(code_sets, code_sets)
def test_sets_of_codes_are_sets(one: CodeSet, other: CodeSet) -> None:
    assert spelt_out(one.union(other)) == spelt_out(one) | spelt_out(other)
    assert spelt_out(one.intersection(other)) == spelt_out(one) & spelt_out(other)
    assert spelt_out(one.minus(other)) == spelt_out(one) - spelt_out(other)


@given(code_sets)
def test_the_predicate_finds_the_codes_of_the_set(codes: CodeSet) -> None:
    node = codes.predicate("code")
    if isinstance(node, Nothing):
        assert spelt_out(codes) == set()
    else:
        assert {value for value in UNIVERSE if satisfies(node, value)} == spelt_out(codes)


def test_any_code_of_a_system_is_not_a_coding_without_a_code() -> None:
    node = whole("http://s/1").predicate("code")
    assert satisfies(node, TokenValue("http://s/1", "x"))
    assert not satisfies(node, TokenValue("http://s/1", ""))


def test_what_is_left_out_counts_too() -> None:
    assert whole("http://s/1").minus(listed("http://s/1", ["a", "b"])).size == 2
    assert listed("http://s/1", ["a"]).predicate("code") == TokenIn(
        "code", frozenset({("http://s/1", "a")})
    )
