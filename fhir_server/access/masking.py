"""What 'colour only' shows: that there is a rating and which, and who the child is.

Rows 4 and 12 of the decision table. The rest of such a Flag or Patient is left out of the answer,
which is marked as SUBSETTED (https://hl7.org/fhir/R4/resource.html#Meta), and by what is left out
nobody finds, sorts or counts. Of Flags it shows the ratings that hold now, and of codes the
project's own.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.summary import SUBSETTED
from fhir_server.search.ast import Everything, Node, Nothing, TokenIs, conjunction
from fhir_server.search.rewrite import Used
from fhir_server.storage.interface import StoredVersion

_ALWAYS: Final = ("resourceType", "id", "implicitRules")
_META: Final = ("versionId", "lastUpdated", "profile", "security", "tag")
"""Not `source`, which may tell who sent it."""
_CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
"""The only labels that are shown: those of sensitivity say what it is about."""
_MASKED: Final[Mapping[str, Any]] = {
    "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
    "valueCode": "masked",
}
_SHOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "Flag": ("status", "category", "code", "subject"),
    "Patient": ("identifier", "name", "birthDate"),
}
TYPES: Final = frozenset(_SHOWN)
_SYSTEMS: Final[Mapping[str, str]] = {
    "category": canonicals.FLAG_CATEGORY,
    "code": canonicals.DSR_RATING,
}
"""The codes that are shown of a concept; its text may say more than they."""
_RESOURCE: Final = frozenset(
    {"_id", "_lastUpdated", "_profile", f"_security|{_CONFIDENTIALITY}", "_tag"}
)
_PUBLIC: Final[Mapping[str, frozenset[str]]] = {
    "Flag": frozenset(
        {
            *("status", "patient", "subject", "{Patient}"),
            *(f"{name}|{system}" for name, system in _SYSTEMS.items()),
        }
    ),
    "Patient": frozenset(
        {
            *("name", "family", "given", "phonetic", "birthdate", "{Patient}"),
            f"identifier|{canonicals.NHS_NUMBER}",
        }
    ),
}


def is_masked_type(resource_type: str) -> bool:
    """Whether something of the type is left when the mask is on."""
    return resource_type in _SHOWN


def is_public(resource_type: str, used: Used) -> bool:
    """Whether all of these values can be seen through the mask."""
    allowed = _public(resource_type)
    return used <= allowed or all(
        code in allowed or code.partition("|")[0] in allowed for code in used
    )


@cache
def _public(resource_type: str) -> frozenset[str]:
    return _PUBLIC.get(resource_type, frozenset()) | _RESOURCE


def shown(resource_type: str) -> Node:
    """Which resources of the type are seen through the mask at all."""
    if resource_type == "Flag":
        rating = TokenIs("code", canonicals.DSR_RATING, None)
        return conjunction(rating, TokenIs("status", None, "active"))
    return Everything() if is_masked_type(resource_type) else Nothing()


def is_shown(resource: Mapping[str, Any]) -> bool:
    """As `shown`, of one resource."""
    if resource["resourceType"] != "Flag":
        return is_masked_type(resource["resourceType"])
    codings = resource.get("code", {}).get("coding", ())
    is_rating = any(one.get("system") == canonicals.DSR_RATING for one in codings)
    return is_rating and resource.get("status") == "active"


def masked(version: StoredVersion) -> StoredVersion:
    """The version as it is seen through the mask; its number and time stay."""
    known = _known.get(version.body)
    if known is not None and known[0] == version:
        return known[1]
    resource = json.decode_own(version.body)
    covered = _covered(version, resource)
    if len(version.body) <= _LARGE:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[version.body] = (version, covered, is_shown(resource))
    return covered


def masked_before(version: StoredVersion) -> StoredVersion | None:
    """As `masked`, of one that was masked before and is shown; None where that is not known."""
    known = _known.get(version.body)
    return known[1] if known is not None and known[2] and known[0] == version else None


def masked_page(versions: Sequence[StoredVersion]) -> list[StoredVersion]:
    """As `masked`, of all of a page."""
    found = [_known.get(version.body) for version in versions]
    before = [known for known in found if known is not None]
    if len(before) == len(found) and [known[0] for known in before] == versions:
        return [known[1] for known in before]
    return [masked(version) for version in versions]


def _covered(version: StoredVersion, resource: Mapping[str, Any]) -> StoredVersion:
    body = json.encode(masked_resource(resource))
    return StoredVersion(
        version.type, version.id, version.version, version.last_updated, version.method, body
    )


_LARGE: Final = 8192
"""Bytes of a version that is masked anew each time."""
_MOST_KNOWN: Final = 4096
_known: Final[dict[bytes, tuple[StoredVersion, StoredVersion, bool]]] = {}
"""Versions by their content, as they are stored and as they are masked, and whether they are shown.

That the rest is the same too is looked at each time: a process may have several stores.
"""


def masked_resource(resource: Mapping[str, Any]) -> Resource:
    """What is left of a resource.

    Raises:
        KeyError: for a type of which nothing is left.
    """
    elements = _SHOWN[resource["resourceType"]]
    found: Resource = {}
    for name, value in resource.items():
        if name in _ALWAYS:
            found[name] = value
        elif name == "modifierExtension":
            # That there is one must not be ignored; what it says is covered.
            found[name] = [{"url": one["url"], "extension": [_MASKED]} for one in value]
        elif name == "meta":
            found[name] = _meta(value)
        elif name in elements:
            kept = _kept(name, value)
            if kept:
                found[name] = kept
    return found


def _meta(meta: Mapping[str, Any]) -> Resource:
    kept = {name: meta[name] for name in _META if name in meta}
    labels = [one for one in kept.pop("security", ()) if one.get("system") == _CONFIDENTIALITY]
    if labels:
        kept["security"] = labels
    return {**kept, "tag": [*kept.get("tag", ()), SUBSETTED]}


def _kept(name: str, value: Any) -> Any:
    match name:
        case "identifier":
            return [_plain(one) for one in value if one.get("system") == canonicals.NHS_NUMBER]
        case "category":
            return [coded for one in value if (coded := _coded(one, _SYSTEMS[name]))]
        case "code":
            return _coded(value, _SYSTEMS[name])
        case "subject":
            return {"reference": value["reference"]} if "reference" in value else {}
        case "name":
            return [_name(one) for one in value]
        case _:
            return value


def _plain(identifier: Mapping[str, Any]) -> Resource:
    return {name: identifier[name] for name in ("system", "value") if name in identifier}


def _coded(concept: Mapping[str, Any], system: str) -> Resource:
    codings = [
        {name: one[name] for name in ("system", "code") if name in one}
        for one in concept.get("coding", ())
        if one.get("system") == system
    ]
    return {"coding": codings} if codings else {}


def _name(name: Mapping[str, Any]) -> Resource:
    kept = ("use", "text", "family", "given", "prefix", "suffix")
    return {part: name[part] for part in kept if part in name}
