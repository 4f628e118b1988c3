"""Lists of thousands, as a policy has them: they mean the same however they are looked up."""

import pytest

from fhir_server.search.ast import (
    Differs,
    IdIn,
    Node,
    Not,
    Query,
    ReferenceTo,
    SortKey,
    TokenIs,
    conjunction,
    disjunction,
)
from fhir_server.storage.interface import Store
from tests.storage.questions import patient, put

_WITH = ReferenceTo("patient", tuple(f"Patient/p{number}" for number in range(0, 6000, 2)))
_DOZENS = ReferenceTo("patient", tuple(f"Patient/p{number}" for number in range(0, 60, 2)))
"""As many as a keyworker has."""
_IDS = IdIn(tuple(f"f{number}" for number in range(0, 6000, 3)))
_ACTIVE = TokenIs("status", None, "active")
_EVEN, _THIRD, _LIVE = {0, 2, 4, 6, 8}, {0, 3, 6, 9}, {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (_WITH, _EVEN),
        (_DOZENS, _EVEN),
        (Not(_DOZENS), set(range(10)) - _EVEN),
        (conjunction(_DOZENS, Not(Not(_ACTIVE))), _EVEN & _LIVE),
        (_IDS, _THIRD),
        (Not(_WITH), set(range(10)) - _EVEN),
        (Differs("patient", _WITH), set(range(10)) - _EVEN),
        (conjunction(_WITH, _IDS), _EVEN & _THIRD),
        (conjunction(_WITH, Not(Not(_ACTIVE))), _EVEN & _LIVE),
        (conjunction(_ACTIVE, _WITH), _EVEN & _LIVE),
        (disjunction(_WITH, _IDS), _EVEN | _THIRD),
    ],
)
@pytest.mark.parametrize("sort", [(), (SortKey("date", "date"),)])
async def test_a_long_list_finds_what_it_names(
    store: Store, node: Node, wanted: set[int], sort: tuple[SortKey, ...]
) -> None:
    flags = [
        {
            "resourceType": "Flag",
            "id": f"f{number}",
            "status": "active" if number in _LIVE else "inactive",
            "code": {"text": "test"},
            "subject": {"reference": f"Patient/p{number}"},
        }
        for number in range(10)
    ]
    await put(store, patient("p0"), *flags)
    query = Query("Flag", node, sort)
    page = await store.search(query, 100)
    assert {match.id for match in page.matches} == {f"f{number}" for number in wanted}
    assert await store.total(query) == len(wanted)
