"""What one decision shows of one resource of that patient's record."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server.access import masking, membership
from fhir_server.access.as_stored import category_marks, has_one
from fhir_server.access.decision import Decision, Sight
from fhir_server.access.labels import labels_of
from fhir_server.fhir import canonicals
from fhir_server.search.ast import Node, Not, TokenIn, conjunction
from fhir_server.storage.interface import StoredVersion

_PLAN: Final = "CarePlan"


def sight_of(decision: Decision, resource: Mapping[str, Any]) -> Sight:
    name = resource["resourceType"]
    sight = sight_of_type(decision, name)
    if sight is Sight.NONE:
        return sight
    if decision.without_labels and not labels_of(resource).isdisjoint(decision.without_labels):
        return Sight.NONE
    if name == _PLAN and decision.plan_categories:
        categories = {
            one.get("code")
            for concept in resource.get("category", ())
            for one in concept.get("coding", ())
            if one.get("system") == canonicals.CARE_PLAN_CATEGORY
        }
        if categories.isdisjoint(decision.plan_categories):
            return Sight.NONE
    if sight is Sight.COLOUR and not masking.is_shown(resource):
        return Sight.NONE
    return sight


def sight_alone(decision: Decision, resource_type: str) -> Sight | None:
    """What `sight_of` is for each resource of the type; None where it hangs on the resource."""
    sight = sight_of_type(decision, resource_type)
    if sight is Sight.NONE:
        return sight
    narrowed = resource_type == _PLAN and decision.plan_categories
    hangs = sight is Sight.COLOUR or decision.without_labels or narrowed
    return None if hangs else sight


def shows_all(decision: Decision, resource: Mapping[str, Any]) -> bool:
    return sight_of(decision, resource) is Sight.ALL


def sight_of_type(decision: Decision, resource_type: str) -> Sight:
    """The most that is shown of resources of the type."""
    if resource_type in decision.without_types:
        return Sight.NONE
    sight = decision.sight(membership.area(resource_type))
    if sight is Sight.COLOUR and not masking.is_masked_type(resource_type):
        return Sight.NONE
    return sight


def detail(decision: Decision, resource_type: str, sight: Sight) -> Node:
    """As `sight_of`: what a resource must be besides, of a type of which there is that sight."""
    nodes: list[Node] = []
    if sight is Sight.COLOUR:
        nodes.append(masking.shown(resource_type))
    if resource_type == _PLAN and decision.plan_categories:
        nodes.append(TokenIn("category", _pairs(decision.plan_categories)))
    if decision.without_labels:
        nodes.append(Not(TokenIn("_security", decision.without_labels)))
    return conjunction(*nodes)


class Shown:
    """What one decision shows, worked out once for each type."""

    __slots__ = ("_ways", "decision")

    def __init__(self, decision: Decision) -> None:
        self.decision: Final = decision
        self._ways: Final[dict[str, tuple[Sight, tuple[bytes, ...]]]] = {}
        """The sight of a type, and what its resources must have in them one of; none of sight
        where that hangs on more."""

    def through(self, version: StoredVersion, *, masks: bool) -> StoredVersion | None:
        """The version as it is seen; None where that has to be looked into.

        Args:
            masks: whether what is seen in part is so for sure, and by no broken glass in full.
        """
        way = self._ways.get(version.type)
        if way is None:
            way = self._ways[version.type] = _way(self.decision, version.type)
        sight, marks = way
        if sight is Sight.ALL:
            return version if not marks or has_one(marks, version.body) else None
        return masking.masked_before(version) if sight is Sight.COLOUR and masks else None


def _way(decision: Decision, resource_type: str) -> tuple[Sight, tuple[bytes, ...]]:
    sight = sight_of_type(decision, resource_type)
    if decision.without_labels:
        return Sight.NONE, ()
    if resource_type == _PLAN and decision.plan_categories:
        return sight, category_marks(decision.plan_categories)
    return sight, ()


def _pairs(codes: Iterable[str]) -> frozenset[tuple[str, str]]:
    return frozenset((canonicals.CARE_PLAN_CATEGORY, code) for code in codes)
