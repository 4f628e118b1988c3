"""Snapshots from differentials: the tree of a profile is its base's with the differential in it.

Sources: https://hl7.org/fhir/R4/profiling.html#snapshot (what a snapshot is),
https://hl7.org/fhir/R4/elementdefinition.html#id (ids), and
https://hl7.org/fhir/R4/profiling.html#slicing. Of a choice, `valueQuantity` in a differential
stands for its slice of that type, and leaves it only the types that are named so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_server.fhir.definitions import type_definition
from fhir_server.validation.profiles.tree import (
    Element,
    Node,
    ProfileError,
    base_children,
    base_tree,
    type_code,
)

TreeOf = Callable[[str], Node | None]
"""The tree of a profile by canonical, None where it is not known."""
Step = tuple[str, str]
"""An element's name and the name of its slice, or ''."""

_PLACE: Final = frozenset({"id", "path", "sliceName"})
_SHORTCUT_SLICING: Final = {
    "discriminator": [{"type": "type", "path": "$this"}],
    "ordered": False,
    "rules": "closed",
}
_URL_SLICING: Final = {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}


def profile_tree(definition: Mapping[str, Any], tree_of: TreeOf) -> Node:
    """The tree of a profile.

    Raises:
        ProfileError: where its base is not known or its elements do not fit the base.
    """
    base = tree_of(str(definition.get("baseDefinition")))
    if base is None:
        raise ProfileError(
            definition["url"], "", f"{definition.get('baseDefinition')} is not known"
        )
    root = base.copy()
    writer = _Writer(definition["url"], root, tree_of)
    # A definition with a snapshot alone is a differential that says everything.
    source = definition.get("differential") or definition.get("snapshot") or {}
    for element, steps in placed(source.get("element", ())):
        writer.apply(element, steps)
    return root


def placed(elements: Sequence[Element]) -> Iterator[tuple[Element, list[Step]]]:
    """Each element with its steps below the root, by its id or by path and order."""
    has_ids = all("id" in element for element in elements)
    current: dict[str, str] = {}
    for element in elements:
        path: str = element["path"]
        for known in [each for each in current if f"{each}.".startswith(f"{path}.")]:
            del current[known]
        current[path] = element.get("sliceName", "")
        if has_ids:
            yield element, _steps_of_id(element["id"])
        else:
            names = path.split(".")
            paths = [".".join(names[: end + 1]) for end in range(len(names))]
            yield (
                element,
                [
                    (name, current.get(each, ""))
                    for name, each in zip(names[1:], paths[1:], strict=True)
                ],
            )


def _steps_of_id(element_id: str) -> list[Step]:
    """`Patient.identifier:nhsNumber.system`; names of slices may have dots in them."""
    steps: list[Step] = []
    for part in element_id.split("."):
        name, colon, slice_name = part.partition(":")
        if steps and not colon and steps[-1][1] and not name[:1].islower():
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}.{part}")
        else:
            steps.append((name, slice_name))
    return steps[1:]


class _Writer:
    """Puts the elements of a differential into a tree."""

    def __init__(self, profile: str, root: Node, tree_of: TreeOf) -> None:
        self._profile = profile
        self._root = root
        self._tree_of = tree_of
        self._narrowed: set[int] = set()
        """Choices to which shortcuts have left some types."""

    def apply(self, element: Element, steps: Sequence[Step]) -> None:
        node = self._root
        node.touched = True
        where = self._root.name
        for name, slice_name in steps:
            where += f".{name}" + (f":{slice_name}" if slice_name else "")
            node = self._child(node, name, where)
            node.touched = True
            if slice_name and slice_name != node.slice_name:
                node = self._slice(node, slice_name, where)
            node.touched = True
        before = node.profiles()
        node.element = merged(node.element, element)
        if len(node.types) == 1 and "." not in node.origin:
            node.origin = node.types[0]
        if node.profiles() != before:
            node.children = None  # they are those of the profile

    def _child(self, node: Node, name: str, where: str) -> Node:
        children = expanded(node, self._tree_of)
        if children is None:
            text = f"{', '.join(node.types) or 'it'} cannot be walked into; name one type first"
            raise ProfileError(self._profile, where, text)
        if name in children:
            return children[name]
        for child in children.values():
            if child.is_choice and name.startswith(child.base_name):
                return self._shortcut(child, name, where)
        text = f"there is no {name}; there are {', '.join(children)}"
        raise ProfileError(self._profile, where, text)

    def _shortcut(self, choice: Node, name: str, where: str) -> Node:
        """`valueQuantity`: the slice of that type, and no type that is not named so."""
        choice.touched = True
        if name in choice.slices:
            return choice.slices[name]
        is_open = "slicing" not in choice.element
        own = choice.base if id(choice) in self._narrowed else choice.element
        kept = [e for e in own["type"] if choice_key(choice.base_name, e) == name]
        if not kept:
            raise ProfileError(
                self._profile, where, f"{name} is none of the types of {choice.name}"
            )
        made = self._slice(choice, name, where)
        made.element = {**made.element, "type": kept}
        made.origin = type_code(kept[0])
        if is_open or id(choice) in self._narrowed:
            types = [*choice.element["type"], *kept] if id(choice) in self._narrowed else kept
            choice.element = {**choice.element, "type": types, "slicing": _SHORTCUT_SLICING}
            self._narrowed.add(id(choice))
        return made

    def _slice(self, node: Node, name: str, where: str) -> Node:
        if name in node.slices:
            return node.slices[name]
        if node.slice_name or "/" in name:
            raise ProfileError(self._profile, where, "slices of slices are not supported")
        if node.name in ("extension", "modifierExtension") and "slicing" not in node.element:
            node.element = {**node.element, "slicing": _URL_SLICING}
        made = node.settled()  # the rules of the whole element hold for its items anyway
        made.slices, made.slice_name = {}, name
        made.element = {n: v for n, v in node.element.items() if n != "slicing"} | {"min": 0}
        if node.is_choice:
            _narrow(made, name)
        node.slices[name] = made
        return made


def _narrow(node: Node, slice_name: str) -> None:
    """The slice `valueQuantity` has the type Quantity, whatever else it says."""
    kept = [e for e in node.element["type"] if choice_key(node.base_name, e) == slice_name]
    if kept:
        node.element = {**node.element, "type": kept}
        node.origin = type_code(kept[0])


def choice_key(base_name: str, entry: Element) -> str:
    """`value` and the type Quantity: `valueQuantity`."""
    code = type_code(entry)
    return base_name + code[0].upper() + code[1:]


def merged(element: Element, change: Element) -> Element:
    """The element with what a differential says of it; rules are added, all else replaced."""
    result = {**element, **{n: v for n, v in change.items() if n not in _PLACE}}
    if "constraint" in change:
        known = {each["key"] for each in change["constraint"]}
        kept = [each for each in element.get("constraint", ()) if each["key"] not in known]
        result["constraint"] = [*kept, *change["constraint"]]
    return result


def expanded(node: Node, tree_of: TreeOf) -> dict[str, Node] | None:
    """The children of a node, made when first asked for; None of a choice of types."""
    if node.children is None and node.origin:
        profiles = node.profiles()
        tree = tree_of(profiles[0]) if len(profiles) == 1 else None
        if tree is not None:
            node.children = tree.settled().children
        else:
            node.children = base_children(node.origin)
    return node.children


# Written out -----------------------------------------------------------------------------------


def snapshot(root: Node) -> list[dict[str, Any]]:
    """The tree as `StructureDefinition.snapshot.element`."""
    return list(_written(root, root.name, root.name))


def _written(node: Node, element_id: str, path: str) -> Iterator[dict[str, Any]]:
    slice_name = {"sliceName": node.slice_name} if node.slice_name else {}
    yield {"id": element_id, "path": path, **slice_name, **node.element}
    for child in (node.children or {}).values():
        yield from _written(child, f"{element_id}.{child.name}", f"{path}.{child.name}")
    for each in node.slices.values():
        yield from _written(each, f"{element_id}:{each.slice_name}", path)


def type_tree(name: str) -> Node | None:
    """The tree of one of R4's own types, None where there is none."""
    try:
        type_definition(name)
    except KeyError:
        return None
    return base_tree(name)
