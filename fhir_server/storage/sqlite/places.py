"""A question in two parts: its form, which decides the SQL, and the values that are its arguments.

The form is the question with a place wherever a value stood. Whatever of a value decides more than
an argument stays in the form: how many alternatives there are and which of them are the same,
prefixes and modifiers, whether a system is named, where an order has no value. Two questions with
the same form have the same SQL.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fhir_server.search.ast import (
    And,
    Chain,
    CompositeMatches,
    Contains,
    DateCompares,
    DateCovers,
    Differs,
    Everything,
    Has,
    IdIn,
    Missing,
    Not,
    Nothing,
    NumberCompares,
    Or,
    QuantityCompares,
    ReferenceTo,
    StringMatches,
    StringMode,
    TokenIn,
    TokenIs,
    TokenLike,
    UriIs,
)
from fhir_server.storage.sqlite.sql import MANY, THOUSANDS, ListPlace, Place, Unfit

Form = Any
"""Of a node: `(class, member, ...)`, or the node itself where all of it decides: then it is short,
as forms are kept."""

_PLACES: Final = tuple(map(Place, range(MANY)))
"""More than so many values may be told to SQLite as lists, which are compiled with them."""
_LISTS: Final = tuple(map(ListPlace, range(MANY)))
_TOGETHER: Final = 4
"""Texts beyond which it pays to look at all at once."""


class Parting:
    """Of one question; its `values` come in the order in which they are met."""

    __slots__ = ("_texts", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._texts: dict[str, Place] = {}

    def form(self, node: Any) -> Form:
        """
        Raises:
            Unfit: where there are too many values, or something else decides.
        """
        part = _PARTS.get(type(node))
        if part is None:
            raise Unfit
        return part(self, node)

    def place(self, value: Any) -> Place:
        """Raises: Unfit."""
        number = len(self.values)
        if number == MANY:
            raise Unfit
        self.values.append(value)
        return _PLACES[number]

    def text(self, text: str) -> Place:
        """The same place for the same text: of equal alternatives, one is asked for.

        Raises:
            Unfit.
        """
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = self.place(text)
        return known

    def texts(self, several: tuple[str, ...]) -> tuple[Place, ...] | ListPlace:
        """As `text` of each; of thousands, as a policy may name them, the list is one value.

        Raises:
            Unfit.
        """
        begin = len(self.values)
        if len(several) > THOUSANDS and begin < MANY:
            self.values.append(several)
            return _LISTS[begin]
        end = begin + len(several)
        if len(several) > _TOGETHER and end <= MANY and self._texts.keys().isdisjoint(several):
            places = dict(zip(several, _PLACES[begin:end], strict=True))
            if len(places) == len(several):
                self._texts.update(places)
                self.values += several
                return _PLACES[begin:end]
        return tuple([self.text(one) for one in several])

    def position(self, position: tuple[Any, ...] | None) -> Form:
        """Raises: Unfit."""
        if position is None:
            return None
        return tuple([None if one is None else self.place(one) for one in position])

    def _optional(self, text: str | None) -> Place | None:
        return None if text is None else self.text(text)

    def _stated(self, text: str) -> Place | str:
        return self.text(text) if text else ""

    def _several(self, node: And | Or | CompositeMatches) -> Form:
        forms = tuple([self.form(inner) for inner in node.nodes])
        if isinstance(node, CompositeMatches):
            return (CompositeMatches, node.code, forms)
        return (type(node), forms)

    def _not(self, node: Not) -> Form:
        return (Not, self.form(node.node))

    def _differs(self, node: Differs) -> Form:
        return (Differs, node.code, self.form(node.node))

    def _chain(self, node: Chain) -> Form:
        return (Chain, node.code, node.target, node.forms, self.form(node.node), node.canonical)

    def _has(self, node: Has) -> Form:
        return (Has, node.source, node.code, node.forms, self.form(node.node), node.canonical)

    def _contains(self, _: Contains) -> Form:
        """Whether a type was ever contained decides, and may change from one to the next."""
        raise Unfit

    def _itself(self, node: Everything | Nothing | Missing) -> Form:
        return node

    def _codes(self, node: TokenIn) -> Form:
        """As a policy has them; a value set may have thousands, which would be kept."""
        pairs = (*node.pairs, *node.but, node.systems)
        if sum(len(text) for pair in pairs for text in pair) > _LONG:
            raise Unfit
        return node

    def _ids(self, node: IdIn) -> Form:
        return (IdIn, self.texts(node.ids))

    def _reference(self, node: ReferenceTo) -> Form:
        return (ReferenceTo, node.code, self.texts(node.targets), self._stated(node.version))

    def _token(self, node: TokenIs | TokenLike) -> Form:
        return (type(node), node.code, self._optional(node.system), self._optional(node.token))

    def _uri(self, node: UriIs) -> Form:
        return (UriIs, node.code, self.text(node.uri))

    def _string(self, node: StringMatches) -> Form:
        if node.mode is StringMode.STARTS and (not node.text or node.text[-1] == _LAST):
            raise Unfit  # there may be no text after all that begin so
        return (StringMatches, node.code, node.mode, self.text(node.text))

    def _date(self, node: DateCompares) -> Form:
        place = self.place
        return (DateCompares, node.code, node.prefix, place(node.low), place(node.high))

    def _covered(self, node: DateCovers) -> Form:
        return (DateCovers, node.code, self.place(node.low), self.place(node.high))

    def _number(self, node: NumberCompares | QuantityCompares) -> Form:
        numbers = [self.place(one) for one in (node.value, node.low, node.high)]
        if isinstance(node, NumberCompares):
            return (NumberCompares, node.code, node.prefix, *numbers)
        unit = (self._stated(node.system), self._stated(node.unit))
        return (QuantityCompares, node.code, node.prefix, *numbers, *unit)


_LAST: Final = "\U0010ffff"
_LONG: Final = 1000
"""Characters of codes and systems."""

_PARTS: Final[Mapping[type, Callable[[Parting, Any], Form]]] = {
    Everything: Parting._itself,
    Nothing: Parting._itself,
    Missing: Parting._itself,
    TokenIn: Parting._codes,
    And: Parting._several,
    Or: Parting._several,
    CompositeMatches: Parting._several,
    Not: Parting._not,
    Differs: Parting._differs,
    Chain: Parting._chain,
    Has: Parting._has,
    Contains: Parting._contains,
    IdIn: Parting._ids,
    ReferenceTo: Parting._reference,
    TokenIs: Parting._token,
    TokenLike: Parting._token,
    UriIs: Parting._uri,
    StringMatches: Parting._string,
    DateCompares: Parting._date,
    DateCovers: Parting._covered,
    NumberCompares: Parting._number,
    QuantityCompares: Parting._number,
}


def written(form: Form) -> Any:
    """The node that the form stands for, places in it."""
    if type(form) is not tuple:
        return form
    if form and isinstance(form[0], type):
        return form[0](*map(written, form[1:]))
    return tuple(map(written, form))
