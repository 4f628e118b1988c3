"""Scopes: what is granted is what was asked for and is registered, and no more.

The oracle says for each single thing whether a text of scopes allows it, by another reading of
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html.
"""

import re
from itertools import chain, combinations, product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.tokens.scopes import grants as read_by_resource_server
from fhir_server.authorisation.scopes import MOST, MOST_GRANTED, common, parse, rendered

LEVELS: Final = ("patient", "system", "user")
TYPES: Final = ("CarePlan", "Goal", "Patient")
CRITERIA: Final = ("category=a", "category=b|c", "status=http://x y")
WRITTEN: Final = ("category=a", "category=b%7Cc", "status=http://x%20y")

Thing = tuple[str, str, str, frozenset[str]]
"""A level, a type, a letter, and the criteria that the resource satisfies."""
THINGS: Final[list[Thing]] = [
    (level, kind, letter, frozenset(satisfied))
    for level, kind, letter in product(LEVELS, TYPES, "cruds")
    for satisfied in chain.from_iterable(combinations(CRITERIA, n) for n in range(4))
]


def meaning(text: str) -> set[Thing]:
    """All that is allowed, thing by thing."""
    return {thing for thing in THINGS if any(allows(scope, thing) for scope in text.split())}


def allows(scope: str, thing: Thing) -> bool:
    level, kind, letter, satisfied = thing
    head, _, query = scope.partition("?")
    place, _, rights = head.rpartition(".")
    letters = {"read": "rs", "write": "cud", "*": "cruds"}.get(rights, rights)
    wanted = {CRITERIA[WRITTEN.index(one)] for one in query.split("&")} if query else set()
    return place in (f"{level}/{kind}", f"{level}/*") and letter in letters and wanted <= satisfied


def _scope(level: str, kind: str, rights: str, criteria: list[str]) -> str:
    query = "&".join(criteria) if rights not in ("read", "write", "*") else ""
    return f"{level}/{kind}.{rights}" + (f"?{query}" if query else "")


_letters = st.sets(st.sampled_from("cruds"), min_size=1).map(
    lambda found: "".join(letter for letter in "cruds" if letter in found)
)
_scopes = st.builds(
    _scope,
    st.sampled_from(LEVELS),
    st.sampled_from((*TYPES, "*")),
    st.sampled_from(("read", "write", "*")) | _letters,
    st.lists(st.sampled_from(WRITTEN), max_size=3, unique=True),
)
_texts = st.lists(_scopes, max_size=6).map(" ".join)


def _as_written(text: str) -> str:
    """What the server writes, with criteria as the oracle knows them."""
    for criterion, written in zip(CRITERIA, WRITTEN, strict=True):
        text = text.replace(criterion.replace(" ", "%20"), written)
    return text


@given(_texts, _texts)
def test_what_is_granted_is_what_is_asked_for_and_registered_and_no_more(
    asked: str, registered: str
) -> None:
    granted = _as_written(rendered(common(parse(asked), parse(registered))))
    assert meaning(granted) == meaning(asked) & meaning(registered)


@given(_texts)
def test_what_is_written_is_read_back_as_the_same(text: str) -> None:
    assert meaning(_as_written(rendered(parse(text)))) == meaning(text)
    assert parse(rendered(parse(text))) == parse(text)


@given(_texts)
def test_the_resource_server_reads_the_same_in_what_is_written(text: str) -> None:
    assert read_by_resource_server(rendered(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("asked", "registered", "granted"),
    [
        ("system/*.read", "system/CarePlan.rs", "system/CarePlan.rs"),
        ("system/CarePlan.rs", "system/*.cruds", "system/CarePlan.rs"),
        (
            "system/*.*",
            "system/Patient.read system/Task.write",
            "system/Patient.rs system/Task.cud",
        ),
        ("system/Patient.s", "system/Patient.r", ""),
        ("user/Patient.rs", "system/Patient.rs", ""),
        ("system/Flag.rs?code=a", "system/Flag.rs?status=b", "system/Flag.rs?code=a&status=b"),
        ("system/Flag.rs system/*.rs", "system/*.cruds", "system/*.rs"),
    ],
)
def test_asked_and_registered_come_to(asked: str, registered: str, granted: str) -> None:
    assert rendered(common(parse(asked), parse(registered))) == granted


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("openid", "no scope that is known"),
        ("system/Patient", "no scope that is known"),
        ("system/Patient.", "no scope that is known"),
        ("system/Patient.sr", "no scope that is known"),
        ("system/Patient.rr", "no scope that is known"),
        ("system/Patient.RS", "no scope that is known"),
        ("System/Patient.rs", "no scope that is known"),
        ("system/Patient.read?status=a", "no scope that is known"),
        ("system/Patient.rs?", "no scope that is known"),
        ('system/Patient.rs?a="', "no scope that is known"),
        ("system/Patient.rs\nsystem/*.cruds", "no scope that is known"),
        ("system/Patient.rs  system/Flag.rs", "no scope that is known"),
        ("system/Pateint.rs", "no scope that is known"),
        ("system/Patient.rs?status", "no scope that is known"),
        ("system/Patient.rs?status=", "no scope that is known"),
        ("system/Patient.rs?a=%ff", "no scope that is known"),
        ("system/Patient.rs?a=%00", "no scope that is known"),
        ("system/Patient.rs?" + "&".join(f"a{n}=1" for n in range(21)), "up to 20"),
        (" ".join(["system/Patient.rs"] * (MOST + 1)), f"more than {MOST} scopes"),
        ("system/Patient.rs?a=" + "b" * 9000, "more than 8192 characters"),
    ],
)
def test_what_is_no_scope_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse(text)


def test_there_is_a_bound_on_what_two_lists_come_to() -> None:
    asked = " ".join(f"system/*.rs?a={n}" for n in range(MOST))
    registered = " ".join(f"system/*.rs?b={n}" for n in range(MOST))
    with pytest.raises(ValueError, match=f"more than {MOST_GRANTED} scopes"):
        common(parse(asked), parse(registered))
