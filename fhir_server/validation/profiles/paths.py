"""Paths of discriminators: https://hl7.org/fhir/R4/profiling.html#discriminator.

The restricted FHIRPath that the standard allows there: names, `$this`, `resolve()`,
`extension('url')` and `ofType(type)`. A path is followed in the definition, for what a slice
says there, and in the data.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fhir_server.validation.profiles.items import choice_keys, is_resource
from fhir_server.validation.profiles.snapshot import TreeOf, expanded
from fhir_server.validation.profiles.tree import Node, base_tree
from fhir_server.validation.profiles.values import given
from fhir_server.validation.report import Report

_STEP: Final = re.compile(
    r"(?P<name>[A-Za-z]\w*)(?:\((?:'(?P<text>[^']*)'|(?P<type>[A-Za-z]\w*))?\))?(?:\.|$)", re.ASCII
)


class Step(NamedTuple):
    """`function` is '' for a name, else resolve, extension or ofType."""

    function: str
    argument: str


def read_path(path: str) -> list[Step]:
    """Raises ValueError, with the reason, for what a discriminator may not have."""
    rest = path.removeprefix("$this").removeprefix(".")
    steps: list[Step] = []
    while rest:
        found = _STEP.match(rest)
        if found is None:
            raise ValueError(f"the discriminator path '{path}' is not understood")
        steps.append(_step(found, path))
        rest = rest[found.end() :]
    return steps


def _step(found: re.Match[str], path: str) -> Step:
    name, text, type_name = found.group("name", "text", "type")
    if "(" not in found[0]:
        return Step("", name)
    if name == "resolve" and text is None and type_name is None:
        return Step(name, "")
    if name == "extension" and text:
        return Step(name, text)
    if name == "ofType" and type_name:
        return Step(name, type_name)
    raise ValueError(f"the discriminator path '{path}' has a function that is not allowed there")


# In the definition -----------------------------------------------------------------------------


class Said(NamedTuple):
    """A node that a path leads to, and the values that a fixed one further up has there."""

    node: Node
    implied: tuple[Any, ...]


def said_at(node: Node, steps: Sequence[Step], tree_of: TreeOf) -> list[Said]:
    """All that a slice says at the path, in slices of its elements too."""
    found = [Said(each, ()) for each in (node, *node.slices.values())]
    for step in steps:
        found = [after for before in found for after in _followed(before, step, tree_of)]
    return found


def _followed(said: Said, step: Step, tree_of: TreeOf) -> Iterator[Said]:
    for node in _stepped(said.node, step, tree_of):
        implied = tuple(value for each in _values_of(said) for value in _inner(each, step))
        for each in (node, *node.slices.values()):
            yield Said(each, implied)


def _values_of(said: Said) -> Iterator[Any]:
    yield from said.implied
    for prefix in ("fixed", "pattern"):
        found = given(said.node.element, prefix)
        if found is not None:
            yield found[1]


def _inner(value: Any, step: Step) -> list[Any]:
    inner = value.get(step.argument) if isinstance(value, Mapping) and not step.function else None
    return inner if isinstance(inner, list) else [] if inner is None else [inner]


def _stepped(node: Node, step: Step, tree_of: TreeOf) -> Iterator[Node]:
    match step.function:
        case "resolve":
            targets = (t for e in node.element.get("type", ()) for t in e.get("targetProfile", ()))
            yield from (tree for target in targets if (tree := tree_of(target)) is not None)
        case "ofType":
            if step.argument in node.types:
                yield node if len(node.types) == 1 else base_tree(step.argument)
        case "extension":
            holder = (expanded(node, tree_of) or {}).get("extension")
            for each in holder.slices.values() if holder else ():
                if step.argument in expected(url_of(each, tree_of)):
                    yield each
        case _:
            children = expanded(node, tree_of) or {}
            child = children.get(step.argument) or children.get(f"{step.argument}[x]")
            if child is not None:
                yield child


def url_of(extension: Node, tree_of: TreeOf) -> list[Said]:
    return said_at(extension, [Step("", "url")], tree_of)


def expected(said: Sequence[Said]) -> list[Any]:
    """The values that are fixed there, or that a pattern has."""
    return [value for each in said for value in _values_of(each)]


# In the data -----------------------------------------------------------------------------------

Find = Callable[[Any, Report], list[Any]]
"""The values at a path, from the one that is to be put into a slice."""


def finder(node: Node, steps: Sequence[Step], tree_of: TreeOf) -> Find:
    """Follows a path in values of the node."""
    finds: list[Find] = []
    for step in steps:
        finds.append(_find(node, step))
        node = next(_stepped(node, step, tree_of), node)

    def find(value: Any, report: Report) -> list[Any]:
        values = [value]
        for each in finds:
            values = [inner for outer in values for inner in each(outer, report)]
        return values

    return find


def _find(node: Node, step: Step) -> Find:
    match step.function:
        case "resolve":
            return _resolved
        case "extension":
            return _extension(step.argument)
        case "ofType" if is_resource(step.argument):
            return _of_type(step.argument)
        case "ofType":
            return lambda value, _report: [value]
    return _member(step.argument, node)


def _member(name: str, node: Node) -> Find:
    choice = (node.children or {}).get(f"{name}[x]")
    keys = choice_keys(choice, choice.base["type"]) if choice else {name: ""}

    def find(value: Any, _report: Report) -> list[Any]:
        if not isinstance(value, Mapping):
            return []
        inner = next((value[key] for key in keys if key in value), None)
        return inner if isinstance(inner, list) else [] if inner is None else [inner]

    return find


def _resolved(value: Any, report: Report) -> list[Any]:
    reference = value.get("reference") if isinstance(value, Mapping) else value
    found = report.resolve(reference)
    return [] if found is None else [found]


def _extension(url: str) -> Find:
    def find(value: Any, _report: Report) -> list[Any]:
        given = value.get("extension") if isinstance(value, Mapping) else None
        return [
            each
            for each in (given if isinstance(given, list) else ())
            if isinstance(each, Mapping) and each.get("url") == url
        ]

    return find


def _of_type(name: str) -> Find:
    def find(value: Any, _report: Report) -> list[Any]:
        fits = isinstance(value, Mapping) and value.get("resourceType") == name
        return [value] if fits else []

    return find
