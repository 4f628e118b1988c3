"""A rewrite of queries: value sets and hierarchies become the codes that they stand for.

It is done where the session is asked, so that no way to a search can leave it out, and before
any backend sees the query.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    Has,
    IdIn,
    InValueSet,
    Missing,
    Node,
    Not,
    Or,
    Queries,
    Query,
    ReferenceTo,
    Search,
    Subsumes,
    Terminological,
    TokenIn,
    TokenIs,
)
from fhir_server.terminology.codes import CodeSet
from fhir_server.terminology.library import Library, Reads
from fhir_server.terminology.outside import Outside
from fhir_server.terminology.packaged import NONE, Packaged
from fhir_server.terminology.service import MAX_CODES, Terminology

_PLAIN: Final = frozenset({TokenIs, TokenIn, ReferenceTo, IdIn, Missing})
"""The commonest of those that need no terminology service, and hold no others."""
_TIMES: Final = 10
"""How often the same codes may stand in one query: once for each type that a chain may mean."""
Resolved = Mapping[Terminological, CodeSet]


async def resolved(
    search: Search,
    data: Reads,
    max_codes: int = MAX_CODES,
    outside: Outside | None = None,
    packaged: Packaged = NONE,
) -> Search:
    """The search without what only a terminology service can say.

    Args:
        outside: the terminology server that is asked about what is not known here.
        packaged: what the packages of the settings have.

    Raises:
        FhirError: INVALID, UNSUPPORTED or TOO_COSTLY, at the parameter.
    """
    parts = search.parts if isinstance(search, Queries) else (search,)
    asked = [node for part in parts for node in _terminological(part.where)]
    if not asked:
        return search
    terminology = Terminology(Library(data, packaged), max_codes, outside)
    codes = {node: await _codes(terminology, node) for node in dict.fromkeys(asked)}
    _require_few(sum(codes[node].size for node in asked), _TIMES * max_codes)
    if isinstance(search, Queries):
        return replace(search, parts=tuple(_replaced_in(part, codes) for part in parts))
    return _replaced_in(search, codes)


def _require_few(codes: int, most: int) -> None:
    if codes > most:
        raise FhirError(
            Kind.TOO_COSTLY,
            f"The value sets stand for {codes} codes in all the types that are searched; {most} "
            "are allowed; name the types, as in subject:Patient.name",
        )


def _terminological(node: Node) -> Iterator[Terminological]:
    match node:
        case InValueSet() | Subsumes():
            yield node
        case And(nodes) | Or(nodes):
            for inner in nodes:
                if type(inner) not in _PLAIN:
                    yield from _terminological(inner)
        case Not(inner) | Chain(node=inner) | Has(node=inner) | Contains(node=inner):
            yield from _terminological(inner)


async def _codes(terminology: Terminology, node: Terminological) -> CodeSet:
    try:
        if isinstance(node, InValueSet):
            return await terminology.expand(node.url, node.local)
        return await terminology.subsumed(node.system, node.token, below=node.below)
    except FhirError as error:
        place = f"http.{node.place or node.code}"
        issues = (replace(issue, expression=place) for issue in error.issues)
        raise FhirError.of(error.kind, issues) from None


def _replaced_in(query: Query, codes: Resolved) -> Query:
    return replace(query, where=_replaced(query.where, codes))


def _replaced(node: Node, codes: Resolved) -> Node:
    match node:
        case InValueSet() | Subsumes():
            return codes[node].predicate(node.code)
        case And(nodes):
            return And(tuple(_replaced(inner, codes) for inner in nodes))
        case Or(nodes):
            return Or(tuple(_replaced(inner, codes) for inner in nodes))
        case Not(inner):
            return Not(_replaced(inner, codes))
        case Chain(node=inner) | Has(node=inner) | Contains(node=inner):
            return replace(node, node=_replaced(inner, codes))
        case _:
            return node
