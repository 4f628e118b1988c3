"""What a `_filter` means for a resource type: from its tree to the nodes of every search.

https://hl7.org/fhir/R4/search_filter.html#ops. A test is about the set of values at the end of its
path: it holds when one of them satisfies it. So `ne` asks for a value that is different, and is not
the same as `not (… eq …)`, which resources without a value satisfy too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.fhir.definitions import SearchParameter
from fhir_server.search import chains
from fhir_server.search.ast import (
    CompositeMatches,
    DateCompares,
    DateCovers,
    Differs,
    Everything,
    Missing,
    Node,
    Not,
    Or,
    Prefix,
    ReferenceTo,
    StringMatches,
    StringMode,
    TokenIs,
    TokenLike,
    UriIs,
    component,
    conjunction,
    disjunction,
)
from fhir_server.search.chains import Forward, Unknown
from fhir_server.search.composites import composites
from fhir_server.search.criteria import TEXTS, Criteria
from fhir_server.search.filter import (
    Both,
    Either,
    Filter,
    Negation,
    Placed,
    Step,
    Test,
    read_filter,
)
from fhir_server.search.operands import BadOperand, NotSupported
from fhir_server.search.values import fold, without_capitals

FILTER: Final = "_filter"
_AT: Final = "At character "
_COMPARED: Final = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le"),
    "number": _COMPARED,
    "quantity": _COMPARED,
    "date": (*_COMPARED, "co", "po"),
    "token": ("eq", "ne", "ss", "sb", "in", "ni"),
    "reference": ("re",),
    "uri": ("eq", "ne"),
    "composite": ("eq",),
}
"""The operators of each type of parameter, besides `pr`."""
_STRINGS: Final = {
    "eq": StringMode.EQUALS,
    "co": StringMode.CONTAINS,
    "sw": StringMode.STARTS,
    "ew": StringMode.ENDS,
    "gt": StringMode.GT,
    "lt": StringMode.LT,
    "ge": StringMode.GE,
    "le": StringMode.LE,
}
_TERMINOLOGY: Final = {"ss": "below", "sb": "above", "in": "in", "ni": "not-in"}
"""The modifiers that ask the same; the value that subsumes a concept has it below."""
SYSTEMS: Final = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ucum": "http://unitsofmeasure.org",
}
"""Short names that the standard gives for systems."""
_ELEMENTS: Final[Mapping[tuple[str, str], tuple[str, Mapping[str, str]]]] = {
    ("Group", "characteristic"): (
        "characteristic-value",
        {"value": "value", "code": "characteristic"},
    ),
    ("DocumentReference", "relatesTo"): (
        "relationship",
        {"code": "relation", "target": "relatesto"},
    ),
}
"""https://hl7.org/fhir/R4/search_filter.html#params: names that take a filter in brackets, the
composite parameter whose elements they stand for, and its components by the names of the table."""
_NOT_IN_R4: Final = (
    ("Observation", "related"),
    *(("ServiceRequest", name) for name in ("event", "item", "item-event")),
)
"""Of the same table, but over search parameters that R4 has no longer."""


class Filtering:
    """Filters for one resource type, at the cost of one search's account."""

    def __init__(self, criteria: Criteria) -> None:
        self._criteria = criteria

    def read(self, resource_type: str, text: str) -> Node:
        """What resources of the type must satisfy.

        Raises:
            FhirError: INVALID, UNSUPPORTED or TOO_COSTLY, with the character in question.
        """

        def whole() -> Node:
            return self._node(resource_type, read_filter(self._criteria.cursor(text)), 0)

        return self._criteria.named(FILTER, whole)

    def _node(self, resource_type: str, one: Filter, depth: int) -> Node:
        match one:
            case Both(filters):
                return conjunction(*(self._node(resource_type, f, depth) for f in filters))
            case Either(filters):
                return disjunction(*(self._node(resource_type, f, depth) for f in filters))
            case Negation(inner):
                return Not(self._node(resource_type, inner, depth))
            case Test():
                return self._test(resource_type, one, depth)

    def _test(self, resource_type: str, test: Test, depth: int) -> Node:
        if test.operator.text != "pr":
            return self._along(resource_type, test.steps, test, depth)
        if test.value.text.lower() not in ("true", "false"):
            raise _placed(BadOperand("pr takes true or false"), test.value)
        asked = replace(test, value=test.value._replace(text="true"))
        present = self._along(resource_type, test.steps, asked, depth)
        return present if test.value.text.lower() == "true" else Not(present)

    def _along(self, resource_type: str, steps: tuple[Step, ...], test: Test, depth: int) -> Node:
        """The test on what the steps lead to."""
        first, *rest = steps
        if not rest:
            return self._tested(resource_type, first.name, test)
        if first.where is not None and not first.type:
            _require_in_r4(resource_type, first.name)
            elements = _ELEMENTS.get((resource_type, first.name.text))
            if elements is not None:
                return self._elements(resource_type, steps, test, elements)

        name = f"{first.name.text}:{first.type}" if first.type else first.name.text
        try:
            link = chains.forward(
                self._criteria.known, resource_type, f"{name}.{rest[0].name.text}"
            )
            return self._beyond(link, first, tuple(rest), test, depth + 1)
        except (BadOperand, NotSupported, Unknown) as error:
            raise _placed(error, first.name) from None

    def _beyond(
        self, link: Forward, first: Step, rest: tuple[Step, ...], test: Test, depth: int
    ) -> Node:
        """What holds of the resource that the first step leads to."""
        refused: list[Unknown] = []

        def read(target: str) -> Node:
            try:
                where = self._node(target, first.where, depth) if first.where else Everything()
            except Unknown as error:
                refused.append(error)
                raise
            return conjunction(where, self._along(target, rest, test, depth))

        try:
            return self._criteria.over(link, depth, read)
        except Unknown:
            # The filter in brackets fits no type: what it says tells more.
            if len(refused) == len(link.targets):
                raise refused[0] from None
            raise

    def _elements(
        self,
        resource_type: str,
        steps: tuple[Step, ...],
        test: Test,
        elements: tuple[str, Mapping[str, str]],
    ) -> Node:
        """One element for which the filter in brackets and the test hold."""
        code, names = elements
        first, second, *more = steps
        if more:
            raise _placed(NotSupported("no chain goes on from an element"), more[0].name)
        tests = _by_component(first, replace(test, steps=(second,)), names)
        composite = composites(resource_type)[code]

        def part(indexed: str, index: int, parameter: SearchParameter) -> Node:
            inner = replace(parameter, code=component(indexed, index))
            asked = tests.get(parameter.code, ())
            found = [self._in_element(resource_type, inner, one) for one in asked]
            return disjunction(*found) if found else Everything()

        return disjunction(
            *(
                _composite(code, [part(code, i, p) for i, p in enumerate(composite.components)])
                for code in composite.indexed
            )
        )

    def _in_element(self, resource_type: str, parameter: SearchParameter, test: Test) -> Node:
        """A predicate on a component, Everything where the element need but have one."""
        if test.operator.text == "pr":
            if test.value.text.lower() != "true":
                raise _placed(NotSupported("an element always has it"), test.value)
            return Everything()
        found = self._operated(resource_type, parameter, test)
        if not isinstance(found, TokenIs | TokenLike | ReferenceTo | Or):
            raise _placed(NotSupported("not allowed on an element; eq and re are"), test.operator)
        return found

    def _tested(self, resource_type: str, name: Placed, test: Test) -> Node:
        """The test on the resource's own values of the parameter."""
        if name.text in (*TEXTS, FILTER, "_list", "_has"):
            raise _placed(NotSupported(f"'{name.text}' cannot stand in a filter"), name)
        try:
            parameter = self._criteria.parameter(resource_type, name.text, name.text)
        except (BadOperand, NotSupported, Unknown) as error:
            raise _placed(error, name) from None
        if test.operator.text == "pr":
            self._criteria.charge(parameter, "missing", [test.value.text])
            return self._criteria.node(resource_type, parameter, "missing", ["false"])
        return self._operated(resource_type, parameter, test)

    def _operated(self, resource_type: str, parameter: SearchParameter, test: Test) -> Node:
        operator = test.operator.text
        allowed = ("eq", "ne") if parameter.code == "_id" else ALLOWED.get(parameter.type, ())
        if operator not in allowed:
            raise _placed(_not_allowed(operator, parameter, allowed), test.operator)
        try:
            self._criteria.charge(parameter, "", [test.value.text])
            return self._compared(resource_type, parameter, operator, test.value.text)
        except (BadOperand, NotSupported) as error:
            raise _placed(error, test.value) from None

    def _compared(
        self, resource_type: str, parameter: SearchParameter, operator: str, text: str
    ) -> Node:
        code = parameter.index

        def plain(value: str, modifier: str = "") -> Node:
            return self._criteria.node(resource_type, parameter, modifier, [value])

        match parameter.type:
            case "string":
                return _string(code, operator, text)
            case "uri":
                return _or_differs(code, operator, UriIs(code, _some(text)))
            case "token" if code == "_id":
                return plain(text, "" if operator == "eq" else "not")
            case "token" if operator in _TERMINOLOGY:
                return plain(_with_system(text), _TERMINOLOGY[operator])
            case "token":
                return _or_differs(code, operator, _in_any_case(plain(_with_system(text))))
            case "date" if operator in ("co", "po"):
                return _date(plain(f"eq{text}"), operator)
            case "quantity":
                number, bar, unit = text.partition("|")
                return plain(f"{operator}{number}{bar}{_with_system(unit)}")
            case "date" | "number":
                return plain(f"{operator}{text}")
            case _:
                return plain(text)


def _string(code: str, operator: str, text: str) -> Node:
    folded = fold(text)
    if not folded:
        raise BadOperand("the text to look for is empty")
    if operator == "ne":
        return Differs(code, StringMatches(code, StringMode.EQUALS, folded))
    return StringMatches(code, _STRINGS[operator], folded)


def _date(node: Node, operator: str) -> Node:
    assert isinstance(node, DateCompares)  # noqa: S101 - what `eq` makes of a date
    if operator == "co":
        return DateCovers(node.code, node.low, node.high)
    # What is about a time overlaps with what surrounds it; here with the time itself.
    return replace(node, prefix=Prefix.AP)


def _or_differs(code: str, operator: str, node: Node) -> Node:
    assert isinstance(node, TokenIs | TokenLike | UriIs)  # noqa: S101 - as it is called
    return node if operator == "eq" else Differs(code, node)


def _in_any_case(node: Node) -> Node:
    """Values of filters are never case sensitive; where there is no case, an index serves."""
    if isinstance(node, TokenIs) and node.token is not None:
        token = without_capitals(node.token)
        if any("a" <= char <= "z" for char in token):
            return TokenLike(node.code, node.system, token)
    return node


def _with_system(text: str) -> str:
    """With the system's address, where its short name stands."""
    system, bar, rest = text.partition("|")
    return f"{SYSTEMS.get(system.lower(), system)}{bar}{rest}" if bar else text


def _some(text: str) -> str:
    if not text:
        raise BadOperand("the value is empty")
    return text


def _composite(code: str, nodes: list[Node]) -> Node:
    if all(isinstance(node, Everything) for node in nodes):
        return Not(Missing(code, "composite"))
    return CompositeMatches(code, tuple(nodes))


def _by_component(first: Step, test: Test, names: Mapping[str, str]) -> dict[str, list[Test]]:
    """By component, the tests in brackets, of which one must hold, and the test after them."""
    tests: dict[str, list[Test]] = {}
    for one in _alternatives(first.where):
        tests.setdefault(_child(one.steps[0].name, names), []).append(one)
    child = _child(test.steps[0].name, names)
    if len(tests) > 1 or child in tests:
        raise _placed(
            NotSupported(f"one of {', '.join(names)} stands in brackets, the other after"),
            first.name,
        )
    return tests | {child: [test]}


def _alternatives(one: Filter | None) -> list[Test]:
    """Tests of which one must hold."""
    match one:
        case Test():
            return [one]
        case Either(filters) if all(isinstance(inner, Test) for inner in filters):
            return [inner for inner in filters if isinstance(inner, Test)]
        case None:
            return []
        case _:
            raise _placed(
                NotSupported("of an element, only tests with or between them can be asked"),
                _beginning(one),
            )


def _beginning(one: Filter) -> Placed:
    match one:
        case Test(steps):
            return steps[0].name
        case Both(filters) | Either(filters):
            return _beginning(filters[0])
        case Negation(inner):
            return _beginning(inner)


def _child(name: Placed, names: Mapping[str, str]) -> str:
    """The parameter that a name stands for within an element."""
    if name.text not in names:
        raise _placed(
            BadOperand(f"'{name.text}' is not a name here; {' and '.join(names)} are"), name
        )
    return names[name.text]


def _require_in_r4(resource_type: str, name: Placed) -> None:
    if (resource_type, name.text) in _NOT_IN_R4:
        raise _placed(
            NotSupported(
                f"'{name.text}' stands for search parameters of {resource_type} that R4 has not"
            ),
            name,
        )


def _not_allowed(operator: str, parameter: SearchParameter, allowed: Sequence[str]) -> ValueError:
    names = ", ".join((*allowed, "pr"))
    text = f"'{operator}' is not an operator for {parameter.code}, a {parameter.type} parameter"
    if operator == "co" and parameter.type == "number":
        return NotSupported(f"'co' on numbers is not supported; {names} are")
    return BadOperand(f"{text}; allowed: {names}")


def _placed(error: ValueError, place: Placed) -> ValueError:
    """The same error, with the character that it is about in front, unless it has one."""
    text = str(error)
    return error if text.startswith(_AT) else type(error)(f"{_AT}{place.at}: {text}")
