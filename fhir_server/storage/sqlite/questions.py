"""Questions to one connection, compiled once for each form of them.

To compile a question takes as long as to answer a small one. What was compiled is kept by the
form (`places`), and the next question of that form costs a walk that collects its values. It is
the form that is compiled, so that a question that is met again cannot come to other SQL.
"""

from collections.abc import Callable, Collection
from operator import itemgetter
from typing import Any, Final, NamedTuple

from fhir_server.search.ast import (
    LAST_UPDATED,
    DateCompares,
    Node,
    Queries,
    Query,
    ReferenceTo,
    Search,
    StringMatches,
    TokenIs,
    TokenLike,
    UriIs,
    conjuncts,
)
from fhir_server.search.parameters import is_added
from fhir_server.storage.interface import Position
from fhir_server.storage.sqlite.compile import Compiler, SeveralCompiler
from fhir_server.storage.sqlite.conditions import NumberOf
from fhir_server.storage.sqlite.entries import Hash
from fhir_server.storage.sqlite.places import Form, Parting, written
from fhir_server.storage.sqlite.sql import Later, ListPlace, Lists, Place, Sql, Unfit

_MOST: Final = 500
"""Forms that are kept: of a few kB each, for each connection."""
_LONG: Final = 20_000
"""Characters of SQL that is not kept."""
_POSITIVE: Final = (ReferenceTo, TokenIs, TokenLike, UriIs, StringMatches, DateCompares)
"""Criteria that nothing satisfies of which the parameter never had a value."""

_Values = list[Any]
_Fill = Callable[[_Values], Any]


class Asked(NamedTuple):
    """A question as SQLite gets it."""

    sql: Sql | None
    """None where nothing can be found."""
    added: Collection[str]
    """Codes of the parameters that were added at run time, as far as it asks by them."""


class _Numbered(NamedTuple):
    """Where the number of a parameter stands, which may be given later."""

    resource_type: str
    code: str


class _Template(NamedTuple):
    text: str
    fills: tuple[_Fill, ...]
    added: tuple[str, ...]
    needed: tuple[_Numbered, ...]
    """Parameters that have a value wherever something is found."""


_UNFIT: Final = _Template("", (), (), ())
"""Of a form whose values decide: it is known by it, and compiled with them each time."""


class Questions:
    """Of one connection, and so of one thread at a time."""

    def __init__(self, hashed: Hash, number: NumberOf, lists: Lists) -> None:
        self._hashed = hashed
        self._number = number
        self._lists = lists
        self._known: dict[Form, _Template] = {}

    def page(
        self, query: Search, most: int, after: Position | None, until: Position | None
    ) -> Asked:
        """For at most so many rows of a page."""
        if isinstance(query, Query):
            parting = Parting()
            try:
                where = parting.form(query.where)
                ends = (parting.place(most), parting.position(after), parting.position(until))
                return self._filled((query.resource_type, where, query.sort, ends), parting.values)
            except Unfit:
                pass
        return self._whole(query, lambda compiler: compiler.page(most, after, until))

    def among(self, rows: str, query: Query, asked: Node, most: int) -> Asked | None:
        """As `page`, of the first rows among some that are known; None for what has no form.

        Args:
            rows: their numbers, as JSON.
            asked: what is looked at besides, in the place of all that the query asks.
        """
        parting = Parting()
        try:
            where = parting.form(asked)
            ends = (parting.place(most), None, None)
            among = parting.place(rows)
            form = (query.resource_type, where, query.sort, ends, among)
            return self._filled(form, parting.values)
        except Unfit:
            return None

    def total(self, query: Search) -> Asked:
        """As `page`, for the number of all that match."""
        if isinstance(query, Query):
            parting = Parting()
            try:
                return self._filled(
                    (query.resource_type, parting.form(query.where)), parting.values
                )
            except Unfit:
                pass
        return self._whole(query, lambda compiler: compiler.total())

    def _whole(self, query: Search, compile_: Callable[[Compiler | SeveralCompiler], Sql]) -> Asked:
        """Compiled with its values."""
        added: set[str] = set()

        def number(resource_type: str, code: str) -> int:
            if is_added(code):
                added.add(code)
            return self._number(resource_type, code)

        self._lists.clear()
        if isinstance(query, Queries):
            compiler = SeveralCompiler(query, self._hashed, number, self._lists)
            return Asked(compile_(compiler), added)
        return Asked(compile_(Compiler(query, self._hashed, number, self._lists)), added)

    def _filled(self, form: Form, values: _Values) -> Asked:
        """Raises: Unfit."""
        template = self._known.get(form)
        if template is None:
            template = self._made(form)
        if template is _UNFIT:
            raise Unfit
        number = self._number
        for one in template.needed:
            if not number(*one):
                return Asked(None, template.added)
        self._lists.clear()
        return Asked(Sql(template.text, [fill(values) for fill in template.fills]), template.added)

    def _made(self, form: Form) -> _Template:
        """What comes of a form that is met for the first time."""
        try:
            made = self._template(*form)
        except Unfit:
            made = _UNFIT
        if len(self._known) >= _MOST:
            self._known.clear()
        if len(made.text) <= _LONG:
            self._known[form] = made
        return made

    def _template(
        self, resource_type: str, where: Form, sort: Any = (), ends: Form = None, among: Any = None
    ) -> _Template:
        query = Query(resource_type, written(where), sort)
        numbered_later: Any = _Numbered
        compiler = Compiler(query, self._hashed_later, numbered_later, self._lists, among)
        sql = compiler.total() if ends is None else compiler.page(*ends)
        numbered = [one for one in sql.arguments if isinstance(one, _Numbered)]
        return _Template(
            sql.text,
            tuple(map(self._fill, sql.arguments)),
            tuple({one.code: None for one in numbered if is_added(one.code)}),
            tuple(_needed(query)),
        )

    def _hashed_later(self, text: Any) -> Any:
        return Later(self._hashed, text) if isinstance(text, Place) else self._hashed(text)

    def _fill(self, argument: Any) -> _Fill:
        """What gives the argument, once the values are at hand."""
        match argument:
            case Place(number):
                return itemgetter(number)
            case ListPlace(number):
                add = self._lists.add
                return lambda values: add(values[number])
            case Later(make, Place(number)):
                return lambda values: make(values[number])
            case _Numbered(resource_type, code):
                give = self._number
                return lambda _: give(resource_type, code)
            case _:
                return lambda _: argument


def _needed(query: Query) -> "list[_Numbered]":
    return [
        _Numbered(query.resource_type, node.code)
        for node in conjuncts(query.where)
        if isinstance(node, _POSITIVE) and node.code != LAST_UPDATED
    ]
