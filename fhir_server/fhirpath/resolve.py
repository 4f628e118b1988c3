"""What a reference points to, without leaving what was sent.

A `#id` is found in the container, any other reference by the `fullUrl` of the Bundle's entries:
an absolute one as it stands, a relative one below the base of the entry that holds it. What is
elsewhere is not looked for; the scope's resolver may know it.

Sources: https://hl7.org/fhir/R4/bundle.html#references, https://hl7.org/fhir/R4/references.html.
"""

import re
from typing import Any, Final

from fhir_server.fhir.references import is_absolute, parse_relative
from fhir_server.fhirpath.items import Item, Items, typed
from fhir_server.fhirpath.plan import Scope

Resource = dict[str, Any]

_RESTFUL: Final = re.compile(
    r"(https?://.*/)[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?",
    re.ASCII,
)
_SLOT: Final = "entries by fullUrl"
_CONTAINED: Final = "contained resources by id"
_BASES: Final = "bases of the entry that holds the resource"


def resolve(item: Item, scope: Scope) -> Items:
    """The resource that a Reference, or a primitive with a URI, points to, if it is known."""
    text = item.value.get("reference") if type(item.value) is dict else item.value
    if type(text) is not str or not text:
        return []
    if text.startswith("#"):
        return _contained(scope, text[1:])
    found = _in_bundle(text, scope)
    if found is None and scope.resolver is not None:
        found = scope.resolver(text)
    return [] if found is None else [_item(found)]


def _item(resource: Resource) -> Item:
    return Item(resource, typed(resource, "Resource"))


def _contained(scope: Scope, id_: str) -> Items:
    root = scope.root
    if not id_:
        return [root]
    known: dict[str, Resource] | None = scope.memo.get(_CONTAINED)
    if known is None:
        known = scope.memo[_CONTAINED] = _by_id(root.value)
    return [_item(known[id_])] if id_ in known else []


def _by_id(root: Resource) -> dict[str, Resource]:
    """The first of those that have the same id."""
    contained = root.get("contained")
    found: dict[str, Resource] = {}
    for one in contained if type(contained) is list else ():
        if type(one) is dict and type(one.get("id")) is str:
            found.setdefault(one["id"], one)
    return found


def _in_bundle(text: str, scope: Scope) -> Resource | None:
    entries = _entries(scope)
    if not entries:
        return None
    address, _, version = text.partition("/_history/")
    if is_absolute(text):
        return _one(entries.get(address, []), version)
    if parse_relative(text) is None:
        return None
    found = [one for base in _bases(scope, entries) for one in entries.get(base + address, [])]
    return _one(found, version)


def _one(found: list[Resource], version: str) -> Resource | None:
    """Several entries may be versions of one resource; then the reference says which."""
    if version:
        found = [one for one in found if _version(one) == version]
    return found[0] if len(found) == 1 else None


def _version(resource: Resource) -> object:
    meta = resource.get("meta")
    return meta.get("versionId") if type(meta) is dict else None


def _entries(scope: Scope) -> dict[str, list[Resource]]:
    known: dict[str, list[Resource]] | None = scope.memo.get(_SLOT)
    if known is None:
        known = scope.memo[_SLOT] = _by_full_url(_bundle(scope))
    return known


def _bundle(scope: Scope) -> Resource:
    return scope.root.value if scope.bundle is None else scope.bundle


def _by_full_url(bundle: Resource) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    if bundle.get("resourceType") != "Bundle":
        return found
    entries = bundle.get("entry")
    for entry in entries if type(entries) is list else ():
        if type(entry) is not dict or type(entry.get("resource")) is not dict:
            continue
        if type(entry.get("fullUrl")) is str:
            found.setdefault(entry["fullUrl"], []).append(entry["resource"])
    return found


def _bases(scope: Scope, entries: dict[str, list[Resource]]) -> set[str]:
    known: set[str] | None = scope.memo.get(_BASES)
    if known is None:
        known = scope.memo[_BASES] = _found_bases(scope, entries)
    return known


def _found_bases(scope: Scope, entries: dict[str, list[Resource]]) -> set[str]:
    """The base of the entry that holds the resource; of every entry when that is the Bundle."""
    holder = scope.root.value
    whole = holder is _bundle(scope)
    return {
        base[1]
        for full_url, resources in entries.items()
        if (whole or any(one is holder for one in resources))
        and (base := _RESTFUL.fullmatch(full_url))
    }
