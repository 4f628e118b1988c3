"""Which elements an expression looks at: `a`, `b`, `b.c` of `a.exists() implies b.all(c = 1)`."""

from typing import Final

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    External,
    Index,
    Literal,
    Node,
    Sign,
    Step,
    TypeTest,
    Variable,
)
from fhir_server.fhirpath.fixed import OF_TYPE, PER_ITEM

Path = tuple[str, ...]
RESOURCE: Final = "%resource"
"""Begins a path that is not of the focus but of the resource."""
EXTENSION: Final = "extension"
ANYWHERE: Final = "*"
"""Stands for whatever leads from an element to what is in it."""
_SAME: Final = frozenset({"where", "first", "last", "tail", "skip", "take", "single", "distinct"})
"""Functions whose result is of the items that they are asked of."""


def paths(node: Node) -> frozenset[Path]:
    """Every element that is named, by its names from the focus, or from `%resource`.

    What comes of `descendants()` is below ANYWHERE: `a.descendants().b` looks at `a.*.b`, and
    `a.repeat(b).c` at `a.b.*.c`. What comes of `resolve()` and its like is elsewhere, and not
    among them. Extensions that are picked by their url are a step of their own (`extension_step`).
    """
    found: set[Path] = set()
    _walk(node, (), found)
    return frozenset(found)


def extension_step(url: str) -> str:
    """`extension(url)`, without the dots that part steps."""
    return f"{EXTENSION}({url.replace('.', '_')})"


def _walk(node: Node, focus: Path | None, found: set[Path]) -> Path | None:
    """Where the items of the result stand; None where that is not one place."""
    match node:
        case Variable(name="this"):
            return focus
        case External(name="resource"):
            return (RESOURCE,)
        case Step(source=source, name=name):
            return _below(focus if source is None else _walk(source, focus, found), name, found)
        case Call():
            return _call(node, focus, found)
        case Index(source=source, index=index):
            _walk(index, focus, found)
            return _walk(source, focus, found)
        case TypeTest(left=left):
            return _walk(left, focus, found)
        case Binary(left=left, right=right):
            _walk(left, focus, found)
            _walk(right, focus, found)
        case Sign(operand=operand):
            _walk(operand, focus, found)
    return None


def _call(node: Call, focus: Path | None, found: set[Path]) -> Path | None:
    picked = _picked(node, focus, found)
    if picked is not None:
        for argument in node.arguments:
            _walk(argument, picked, found)
        return picked
    at = focus if node.source is None else _walk(node.source, focus, found)
    if node.name in OF_TYPE:
        return at
    within = at if node.name in PER_ITEM else focus
    results = [_walk(argument, within, found) for argument in node.arguments]
    if node.name == "descendants" and at is not None:
        return (*at, ANYWHERE)
    if node.name == "repeat" and results and results[0] is not None:
        return (*results[0], ANYWHERE)
    if node.name == "select" and results:
        return results[0]
    return at if node.name in _SAME else None


def _picked(node: Call, focus: Path | None, found: set[Path]) -> Path | None:
    """Where the extensions of one url stand: `extension('u')`, `extension.where(url = 'u' …)`."""
    match node:
        case Call(source=source, name="extension", arguments=(Literal(value=str(url)),)):
            pass
        case Call(source=Step(source=source, name="extension"), name="where", arguments=(by,)):
            url = _url_in(by)
        case _:
            return None
    if not url:
        return None
    at = focus if source is None else _walk(source, focus, found)
    picked = _below(at, extension_step(url), found)
    _below(picked, "url", found)
    return picked


def _url_in(criterion: Node) -> str:
    """'' where it asks for no url, or for one besides others."""
    match criterion:
        case Binary(operator="and", left=left, right=right):
            return _url_in(left) or _url_in(right)
        case Binary(
            operator="=", left=Step(source=None, name="url"), right=Literal(value=str(url))
        ):
            return url
    return ""


def _below(at: Path | None, name: str, found: set[Path]) -> Path | None:
    if at is None:
        return None
    found.add((*at, name))
    return (*at, name)
