"""What definitions ask most, answered on the JSON itself without making items.

Each gives what the general way would give, for a focus that is an object of one known type; the
tests compare the two.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from fhir_server.fhirpath.ast import Binary, Literal, Node, Step
from fhir_server.fhirpath.items import Item, Key, keys
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.plan import Scope, Truth
from fhir_server.fhirpath.types import STRING, SYSTEM_OF

Path = tuple[tuple[Key, ...], ...]

ELEMENT_HAS_CONTENT: Final = parse("hasValue() or (children().count() > id.count())")
"""ele-1, which is asked of every element: https://hl7.org/fhir/R4/element.html"""


def object_has_content(this: Item, _scope: Scope) -> bool:
    """ele-1 of an object: it has no value, so it needs a child that is no id."""
    node = this.value
    return len(node) > 1 or (len(node) == 1 and "id" not in node)


def primitive_has_content(this: Item, _scope: Scope) -> bool:
    """ele-1 of a primitive: a value, or an extension in its place."""
    if this.value is not None:
        return type(this.value) not in (dict, list)
    return type(this.sibling) is dict and object_has_content(Item(this.sibling, ""), _scope)


def present(path: Path) -> Truth:
    """`path.exists()`"""
    if not path:
        return lambda _this, _scope: True
    *before, last = path
    names = frozenset(_names(last))
    if before:
        return lambda this, _scope: any(
            _has_any(node, names) for node in _objects(this.value, before)
        )
    if len(names) > 1:
        return lambda this, _scope: _has_any(this.value, names)
    (name,) = names
    return lambda this, _scope: _filled(this.value.get(name))


def _names(keys: tuple[Key, ...]) -> Iterator[str]:
    for key in keys:
        yield key.name
        if key.primitive:
            yield f"_{key.name}"


def _has_any(node: dict[str, Any], names: frozenset[str]) -> bool:
    # A choice of 50 types has 100 names, and an object seldom more than ten.
    return any(name in names and _filled(node[name]) for name in node)


def _filled(value: Any) -> bool:
    if type(value) is list:
        return any(one is not None for one in value)
    return value is not None


def _objects(node: dict[str, Any], path: list[tuple[Key, ...]]) -> list[dict[str, Any]]:
    found = [node]
    for step in path:
        found = [inner for one in found for key in step for inner in _inner(one.get(key.name))]
    return found


def _inner(value: Any) -> list[dict[str, Any]]:
    values = value if type(value) is list else (value,)
    return [one for one in values if type(one) is dict]


def of_text(path: Path | None, test: Callable[[str], bool], otherwise: Truth) -> Truth:
    """A question about the text of an element that holds one; `otherwise` when it has none."""
    if not path or len(path) > 1 or len(path[0]) != 1:
        return otherwise
    (key,) = path[0]
    if SYSTEM_OF.get(key.type) != STRING or key.repeats:
        return otherwise
    name = key.name

    def truth(this: Item, scope: Scope) -> bool | None:
        value = this.value.get(name)
        return test(value) if type(value) is str else otherwise(this, scope)

    return truth


def texts_of(node: Node) -> dict[str, str]:
    """`name = 'text' and other = 'text'`; {} for what is not of that form."""
    if not isinstance(node, Binary):
        return {}
    if node.operator == "and":
        left, right = texts_of(node.left), texts_of(node.right)
        return {**left, **right} if left and right and left.keys().isdisjoint(right) else {}
    match node:
        case Binary(
            operator="=", left=Step(source=None, name=name), right=Literal(value=str(text))
        ):
            return {name: text}
    return {}


def any_with(path: Path, texts: dict[str, str], otherwise: Truth) -> Truth:
    """Whether an object at the end of the path has all of the texts; `otherwise` where none has."""
    name, text = next(iter(texts.items()))
    steps, rest = list(path), tuple(texts.items())[1:]
    if not all(_is_text(key, wanted) for wanted in texts for key in path[-1]):
        return otherwise

    def truth(this: Item, scope: Scope) -> bool | None:
        for node in _objects(this.value, steps):
            if node.get(name) == text and all(node.get(one) == wanted for one, wanted in rest):
                return True
        return otherwise(this, scope)

    return truth


def _is_text(owner: Key, name: str) -> bool:
    found = keys(owner.type, name)
    return len(found) == 1 and found[0].name == name and SYSTEM_OF.get(found[0].type) == STRING


def one_of(node: Node) -> frozenset[str] | None:
    """The texts of `'a' | 'b' | 'c'`."""
    if isinstance(node, Literal) and isinstance(node.value, str):
        return frozenset({node.value})
    if not isinstance(node, Binary) or node.operator != "|":
        return None
    left, right = one_of(node.left), one_of(node.right)
    return None if left is None or right is None else left | right
