"""Query strings; the oracle is Python's urllib."""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from fhir_server.fhir.queries import pairs_of, query_string

TEXTS = st.text(st.sampled_from("ab0-_.~ *+%&=;/|é\x00€,:"), max_size=6) | st.text(max_size=5)


@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
def test_pairs_are_written_as_urllib_writes_them(pairs: list[tuple[str, str]]) -> None:
    assert query_string(pairs) == urlencode(pairs)
    assert pairs_of(query_string(pairs)) == pairs


@given(query=st.text(st.sampled_from("ab=&;+%2f0é\x00 ?"), max_size=12))
@example("a&&b=&=c&a=b=c")
def test_a_query_string_is_read_as_urllib_reads_it(query: str) -> None:
    assert read(pairs_of, query) == read(urllib_reads, query)


def read(by: Callable[[str], list[tuple[str, str]]], query: str) -> list[tuple[str, str]] | str:
    try:
        return by(query)
    except ValueError as error:
        return str(error)


def urllib_reads(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, errors="strict")
