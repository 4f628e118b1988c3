"""Security labels, the mark of test data, and that of whose a subscription is.

https://hl7.org/fhir/R4/security-labels.html. HTEST is a purpose of use that marks resources of
nobody real (https://terminology.hl7.org/CodeSystem-v3-ActReason.html); the synthetic caseload
carries it as a tag.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import TokenIs

_TEST_DATA: Final = (canonicals.ACT_REASON, "HTEST")
IS_TEST_DATA: Final = TokenIs("_tag", *_TEST_DATA)
_OWNER: Final = f"{canonicals.KW}/subscription-owner"


def labels_of(resource: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """System and code of each security label."""
    return _pairs(resource, "security")


def is_test_data(resource: Mapping[str, Any]) -> bool:
    return _TEST_DATA in _pairs(resource, "tag")


def as_test_data(resource: Resource) -> Resource:
    """The resource with the mark."""
    if is_test_data(resource):
        return resource
    meta = resource.get("meta", {})
    mark = {"system": _TEST_DATA[0], "code": _TEST_DATA[1]}
    return {**resource, "meta": {**meta, "tag": [*meta.get("tag", ()), mark]}}


@lru_cache(maxsize=4096)
def _owner(name: str) -> str:
    """A caller's name is made of client and user, which an answer need not tell."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def is_own(name: str) -> TokenIs:
    """What carries the mark of the caller of that name."""
    return TokenIs("_tag", _OWNER, _owner(name))


def has_own_mark(name: str, resource: Mapping[str, Any]) -> bool:
    return (_OWNER, _owner(name)) in _pairs(resource, "tag")


def as_own(name: str, resource: Resource) -> Resource:
    """The resource with the mark of that caller, and of no other."""
    meta = resource.get("meta", {})
    others = [one for one in meta.get("tag", ()) if one.get("system") != _OWNER]
    return {
        **resource,
        "meta": {**meta, "tag": [*others, {"system": _OWNER, "code": _owner(name)}]},
    }


def _pairs(resource: Mapping[str, Any], name: str) -> frozenset[tuple[str, str]]:
    listed = resource.get("meta", {}).get(name, ())
    return frozenset((one.get("system", ""), one.get("code", "")) for one in listed)
