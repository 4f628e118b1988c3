"""From a query to filters and stages: which matches come, in which order, page by page."""

from typing import Any, Final

from fhir_server.search.ast import LAST_UPDATED, Queries, Query, Search, SortKey
from fhir_server.storage.interface import Position
from fhir_server.storage.mongo.conditions import both, where
from fhir_server.storage.mongo.documents import RANGES, TEXTS
from fhir_server.storage.mongo.driver import Document, Order

_FIELDS: Final = {"_id": "id", LAST_UPDATED: "updated"}
"""Sort keys that every version has beside its entries."""
_TEXT_KINDS: Final = frozenset({"string", "token", "reference", "uri"})


class Compiler:
    """Compiles a query without chains, of one type or several."""

    def __init__(self, query: Search) -> None:
        self._sort: Final = query.sort
        self.filter: Final = _filter(query)

    @property
    def computed(self) -> bool:
        """Whether it is sorted by what stands in the entries."""
        return any(key.code not in _FIELDS for key in self._sort)

    def page(self, after: Position | None, until: Position | None) -> Document:
        """A filter on what lies between the places, for an order that is not computed."""
        return both(self.filter, self._between(after, until))

    @property
    def order(self) -> Order:
        keys: dict[str, int] = {}
        for number, key in enumerate(self._sort):
            if key.code not in _FIELDS:
                keys[_absent(number)] = 1
            # A field that stands there twice is ordered by the first; MongoDB takes the last.
            keys.setdefault(self._place(number), _direction(key))
        return [*keys.items(), ("first", -1 if self._backwards else 1)]

    def stages(self, after: Position | None, until: Position | None, count: int) -> list[Document]:
        """For an order that is computed: `_id`, `first` and the sort values of `count` matches."""
        places = {self._place(number): 1 for number in range(len(self._sort))}
        return [
            {"$match": self.filter},
            {"$project": {"first": 1, "id": 1, "updated": 1, **self._keys()}},
            {"$match": self._between(after, until)},
            {"$set": self._absences()},
            {"$sort": dict(self.order)},
            {"$limit": count},
            {"$project": {"first": 1, **places}},
        ]

    def position(self, document: Document) -> Position:
        """Where it stands in the order."""
        keys = [document.get(self._place(number)) for number in range(len(self._sort))]
        return (*keys, document["first"])

    def _place(self, number: int) -> str:
        """Where the value of the sort key of that number stands."""
        return _FIELDS.get(self._sort[number].code, f"k{number}")

    def _keys(self) -> Document:
        return {
            self._place(number): _sort_value(key)
            for number, key in enumerate(self._sort)
            if key.code not in _FIELDS
        }

    def _absences(self) -> Document:
        """Resources without a value come last, in either direction."""
        return {
            _absent(number): {"$cond": [{"$eq": [f"${self._place(number)}", None]}, 1, 0]}
            for number, key in enumerate(self._sort)
            if key.code not in _FIELDS
        }

    @property
    def _backwards(self) -> bool:
        """Equals follow the last key's direction, so that one index gives the whole order."""
        return bool(self._sort) and self._sort[-1].descending

    def _between(self, after: Position | None, until: Position | None) -> Document:
        later = {} if after is None else self._beyond(after)
        return both(later, {} if until is None else {"$nor": [self._beyond(until)]})

    def _beyond(self, after: Position) -> Document:
        """What comes later in the order than the position."""
        *values, first = after
        alternatives: list[Document] = []
        equal: list[Document] = []
        for number, (key, value) in enumerate(zip(self._sort, values, strict=True)):
            if value is not None:
                alternatives.append({"$and": [*equal, self._later(number, key, value)]})
            equal.append({self._place(number): {"$eq": value}})
        further = {"first": {"$lt" if self._backwards else "$gt": first}}
        alternatives.append({"$and": [*equal, further]})
        return {"$or": alternatives}

    def _later(self, number: int, key: SortKey, value: Any) -> Document:
        place = self._place(number)
        later = {place: {"$lt" if key.descending else "$gt": value}}
        if key.code in _FIELDS:
            return later
        return {"$or": [later, {place: {"$eq": None}}]}


def _filter(query: Search) -> Document:
    if isinstance(query, Query):
        return where(query.resource_type, query.where)
    return _filter_of_several(query)


def _filter_of_several(queries: Queries) -> Document:
    return {"live": True, "$or": [where(one.resource_type, one.where) for one in queries.parts]}


def _sort_value(key: SortKey) -> Document:
    array = TEXTS if key.kind in _TEXT_KINDS else RANGES
    field = "c" if array == TEXTS else "h" if key.descending else "l"
    of_parameter = {
        "$filter": {
            "input": f"${array}",
            "as": "entry",
            "cond": {"$eq": ["$$entry.p", {"$literal": key.code}]},
        }
    }
    values = {"$map": {"input": of_parameter, "as": "entry", "in": f"$$entry.{field}"}}
    return {"$max" if key.descending else "$min": values}


def _absent(number: int) -> str:
    return f"n{number}"


def _direction(key: SortKey) -> int:
    return -1 if key.descending else 1
