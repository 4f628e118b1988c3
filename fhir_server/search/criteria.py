"""One criterion of a search: from a parameter's name and value to a node.

Source: https://hl7.org/fhir/R4/search.html#parameters, with chains as in #chaining and #has.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import SearchParameter, resource_types, search_parameters
from fhir_server.fhir.references import is_id
from fhir_server.search import chains, operands
from fhir_server.search.ast import (
    CompositeMatches,
    Everything,
    Has,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    component,
    conjunction,
    disjunction,
)
from fhir_server.search.chains import Forward, Unknown
from fhir_server.search.composites import composites
from fhir_server.search.extract import indexed_modifiers
from fhir_server.search.fulltext import CONTENT, NARRATIVE
from fhir_server.search.limits import Limits
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.syntax import Cursor
from fhir_server.search.textquery import text_query

RESULT_PARAMETERS: Final = (
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_contained",
    "_containedType",
)
TEXTS: Final = (NARRATIVE, CONTENT)
"""Parameters that look at words."""
_ID: Final = SearchParameter("_id", "token", "", "", (), ())
_LIST: Final = "_list"
"""https://hl7.org/fhir/R4/search.html#list"""
_MAX_TARGETS: Final = 20_000
"""Resources that the ids of one parameter may stand for."""


@dataclass(slots=True)
class Criteria:
    """Reads the criteria of one search, and counts what they cost.

    Args:
        base: the server's address without a slash at its end.
        now: microseconds since the epoch.
        known: the search parameters that there are.
    """

    base: str
    now: int
    limits: Limits
    known: ParameterSet
    _name: str = ""
    """The parameter that is read, as it was written."""
    _values: int = 0
    _links: int = 0

    def read(self, resource_type: str, name: str, value: str) -> Node:
        """What resources of the type must satisfy.

        Raises:
            FhirError: INVALID, UNSUPPORTED or TOO_COSTLY, at the parameter.
        """
        return self.named(name, lambda: self._criterion(resource_type, name, value, 0))

    def named(self, name: str, read: Callable[[], Node]) -> Node:
        """What `read` reads; what it refuses is at the parameter.

        Raises:
            FhirError: as `read`.
        """
        self._name = name
        try:
            return read()
        except (Unknown, operands.BadOperand) as error:
            raise at(name, f"{error}") from None
        except operands.NotSupported as error:
            raise unsupported(name, f"{error}") from None

    def _criterion(self, resource_type: str, name: str, value: str, depth: int) -> Node:
        if name.startswith("_has:"):
            return self._reverse(resource_type, name, value, depth + 1)
        if "." in name:
            return self._forward(resource_type, name, value, depth + 1)
        code, colon, modifier = name.partition(":")
        if code == _LIST and not colon:
            return self._in_list(resource_type, value)
        if colon and not modifier:
            raise operands.BadOperand(
                f"'{name}' ends before its modifier; leave the colon out or name one"
            )
        if code in TEXTS and code in search_parameters(resource_type):
            return self._text(code, modifier, value)
        parameter = self.parameter(resource_type, code, name)
        texts = operands.split(value, ",")
        self.charge(parameter, modifier, texts)
        return self.node(resource_type, parameter, modifier, texts)

    @property
    def links(self) -> int:
        """Steps from resource to resource that were read so far."""
        return self._links

    def _in_list(self, resource_type: str, value: str) -> Node:
        texts = operands.split(value, ",")
        self._count_values(len(texts))
        self._count_link()
        ids = _ids("", texts)
        return Has("List", "item", chains.forms(resource_type, self.base), ids)

    def _text(self, code: str, modifier: str, value: str) -> Node:
        """https://hl7.org/fhir/R4/search.html#text"""
        if modifier == "missing":
            return _missing(SearchParameter(code, "text", "", "", (), ()), (), [value])
        if modifier:
            raise operands.BadOperand(f"':{modifier}' is not a modifier for {code}; :missing is")
        node, count = text_query(code, self.cursor(value))
        self._count_values(count)
        return node

    @property
    def spent(self) -> int:
        """The values that were counted so far."""
        return self._values

    def cursor(self, text: str) -> Cursor:
        """To read the value of the parameter as an expression."""
        return Cursor(text, self._name, self.limits.max_expression, self.limits.max_nesting)

    def _forward(self, resource_type: str, name: str, value: str, depth: int) -> Node:
        link = chains.forward(self.known, resource_type, name)
        return self.over(
            link, depth, lambda target: self._criterion(target, link.rest, value, depth)
        )

    def over(self, link: Forward, depth: int, read: Callable[[str], Node]) -> Node:
        """What `read` reads for each type that the step may lead to, behind the step.

        Raises:
            Unknown: where no type has what is asked.
            FhirError: TOO_COSTLY.
        """
        self._require_depth(depth)
        found: list[Node] = []
        unknown: list[Unknown] = []
        for target in link.targets:
            self._count_link()
            try:
                node = read(target)
            except Unknown as error:
                unknown.append(error)
            else:
                found.append(link.node(target, self.base, node))
        if not found:
            raise unknown[0] if len(unknown) == 1 else Unknown(chains.nowhere(link))
        return disjunction(*found)

    def _reverse(self, resource_type: str, name: str, value: str, depth: int) -> Node:
        self._require_depth(depth)
        self._count_link()
        link = chains.reverse(self.known, resource_type, name)
        node = self._criterion(link.source, link.rest, value, depth)
        return link.node(resource_type, self.base, node)

    def _require_depth(self, depth: int) -> None:
        if depth > self.limits.max_chain:
            raise self._too_costly(
                f"A chain of more than {self.limits.max_chain} steps from resource to resource; "
                f"{self.limits.max_chain} are allowed"
            )

    def _count_link(self) -> None:
        self._links += 1
        if self._links > self.limits.max_links:
            raise self._too_costly(
                f"The chains stand for more than {self.limits.max_links} steps, one for each type "
                "that may be meant; name the types, as in subject:Patient.name"
            )

    def charge(self, parameter: SearchParameter, modifier: str, texts: Sequence[str]) -> None:
        """Count what the values cost.

        Raises:
            FhirError: TOO_COSTLY.
        """
        self._count_values(len(texts))
        if _fan_out(parameter, modifier, texts) > _MAX_TARGETS:
            raise self._too_costly(f"{len(texts)} ids of many possible types; give each as Type/id")

    def _count_values(self, count: int) -> None:
        self._values += count
        if self._values > self.limits.max_values:
            raise self._too_costly(
                f"More than {self.limits.max_values} values; {self.limits.max_values} are allowed "
                "in one search"
            )

    def _too_costly(self, text: str) -> FhirError:
        return FhirError.at(Kind.TOO_COSTLY, f"http.{self._name}", text)

    def node(
        self, resource_type: str, parameter: SearchParameter, modifier: str, texts: list[str]
    ) -> Node:
        """One of the values; they are counted (`charge`) by who calls this.

        Raises:
            BadOperand, NotSupported.
        """
        if modifier == "missing":
            composite = composites(resource_type).get(parameter.code)
            return _missing(parameter, composite.indexed if composite else (), texts)
        if parameter.code == "_id":
            return _ids(modifier, texts)
        if parameter.type == "composite":
            if modifier:
                raise operands.BadOperand(
                    f"':{modifier}' is not a modifier for {parameter.code}, a composite "
                    "parameter; allowed: :missing"
                )
            return disjunction(*(self._composite(resource_type, parameter, t) for t in texts))
        operand = operands.reader(
            parameter,
            modifier,
            base=self.base,
            now=self.now,
            indexed=indexed_modifiers(parameter, resource_type),
            place=self._name,
        )
        found = disjunction(*(operand(text) for text in texts))
        return Not(found) if modifier in ("not", "not-in") else found

    def _composite(self, resource_type: str, parameter: SearchParameter, text: str) -> Node:
        """https://hl7.org/fhir/R4/search.html#composite"""
        composite = composites(resource_type)[parameter.code]
        components = composite.components
        parts = operands.split(text, "$")
        if len(parts) != len(components):
            form = "$".join(component.code for component in components)
            raise operands.BadOperand(
                f"'{text}' has {len(parts)} of {len(components)} parts; it is written {form}"
            )
        return disjunction(*(self._elements(code, components, parts) for code in composite.indexed))

    def _elements(
        self, code: str, components: Sequence[SearchParameter], parts: Sequence[str]
    ) -> Node:
        nodes = []
        for index, (one, part) in enumerate(zip(components, parts, strict=True)):
            inner = replace(one, code=component(code, index))
            nodes.append(operands.reader(inner, "", base=self.base, now=self.now)(part))
        return CompositeMatches(code, tuple(nodes))

    def parameter(self, resource_type: str, code: str, name: str) -> SearchParameter:
        """
        Args:
            name: as it was written, for refusals.

        Raises:
            Unknown: where the type has no such parameter.
            BadOperand, NotSupported: for a name that stands for no criterion.
        """
        known = self.known.indexed(resource_type)
        if code == "_filter":
            raise operands.NotSupported("'_filter' takes no modifier and stands in no chain")
        if code == "_has":
            raise operands.BadOperand(chains.HAS_FORM)
        if code in RESULT_PARAMETERS:
            takes = ":iterate" if code in ("_include", "_revinclude") else "no modifier"
            raise operands.NotSupported(f"'{code}' takes {takes}; '{name}' is not supported")
        if code == _LIST:
            raise operands.BadOperand(f"'{code}' takes no modifier")
        if code == "_type":
            raise operands.BadOperand("'_type' has a meaning only where several types are searched")
        if code == "_id":
            return _ID
        if unready := self.known.unready(resource_type, code):
            raise operands.BadOperand(unready)
        if code not in known:
            texts = [name for name in TEXTS if name in search_parameters(resource_type)]
            raise Unknown(
                not_known(code, resource_type, ["_id", *texts, *known, *RESULT_PARAMETERS])
            )
        return known[code]


def _fan_out(parameter: SearchParameter, modifier: str, texts: Sequence[str]) -> int:
    """How many resources bare ids stand for: one for each type that may be meant."""
    if parameter.type != "reference" or modifier:
        return 0
    types = len(parameter.targets) or len(resource_types())
    return types * sum(map(is_id, texts))


def _ids(modifier: str, texts: list[str]) -> Node:
    if modifier not in ("", "not"):
        raise operands.BadOperand(f"':{modifier}' is not allowed on _id; :not and :missing are")
    for text in texts:
        if not is_id(text):
            raise operands.BadOperand(f"'{text}' is not an id: 1 to 64 of A-Z a-z 0-9 - .")
    found = IdIn(tuple(texts))
    return Not(found) if modifier else found


def _missing(parameter: SearchParameter, codes: Sequence[str], texts: list[str]) -> Node:
    """`codes` are those under which the values of a composite stand."""
    if texts not in (["true"], ["false"]):
        raise operands.BadOperand("':missing' takes true or false")
    absent = texts == ["true"]
    if parameter.code == "_id":
        return Nothing() if absent else Everything()
    missing = conjunction(*(Missing(code, parameter.type) for code in codes or (parameter.index,)))
    return missing if absent else Not(missing)


def not_known(code: str, resource_type: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = difflib.get_close_matches(code, list(known), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
    return f"'{code}' is not a search parameter of {resource_type}; {hint}"


def at(name: str, text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, f"http.{name}", text)


def unsupported(name: str, text: str) -> FhirError:
    return FhirError(Kind.UNSUPPORTED, Issue(text, f"http.{name}", "not-supported"))
