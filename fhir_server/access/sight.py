"""What one decision shows of one resource of that patient's record."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server.access import masking, membership
from fhir_server.access.decision import Decision, Sight
from fhir_server.access.labels import labels_of
from fhir_server.fhir import canonicals
from fhir_server.search.ast import Node, Not, TokenIn, conjunction

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


def _pairs(codes: Iterable[str]) -> frozenset[tuple[str, str]]:
    return frozenset((canonicals.CARE_PLAN_CATEGORY, code) for code in codes)
