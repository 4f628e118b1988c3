"""Chains and reverse chains: the steps from one resource to another in a parameter's name.

Sources: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has.
"""

from typing import Final, NamedTuple

from fhir_server.fhir.definitions import SearchParameter, is_resource_type
from fhir_server.search.ast import Chain, Has, Node
from fhir_server.search.extract import refers, targets_of
from fhir_server.search.operands import BadOperand, NotSupported
from fhir_server.search.parameters import ParameterSet

HAS_FORM: Final = (
    "'_has' is written _has:Type:parameter:criterion, as in _has:CarePlan:subject:status"
)


class Unknown(ValueError):
    """The type has no such parameter; among several types that is no error yet."""


class Forward(NamedTuple):
    """`subject:Patient.name`: by the parameter to resources of the types, and on with the rest."""

    parameter: SearchParameter
    targets: tuple[str, ...]
    rest: str
    canonical: bool

    def node(self, target: str, base: str, inner: Node) -> Chain:
        """The step to a resource of the type for which `inner` holds."""
        found = () if self.canonical else forms(target, base)
        return Chain(self.parameter.index, target, found, inner, self.canonical)


class Reverse(NamedTuple):
    """`_has:CarePlan:subject:status`: resources of the type that refer by the parameter."""

    source: str
    parameter: SearchParameter
    rest: str
    canonical: bool

    def node(self, resource_type: str, base: str, inner: Node) -> Has:
        """The step from a resource of the type to one that refers to it: `inner` holds for that."""
        found = () if self.canonical else forms(resource_type, base)
        return Has(self.source, self.parameter.index, found, inner, self.canonical)


def forward(known: ParameterSet, resource_type: str, name: str) -> Forward:
    """The first step of a chain.

    Raises:
        Unknown: where the type has no such parameter.
        BadOperand: where the parameter leads to no resource, or not to that type.
        NotSupported: for a step into the resource itself.
    """
    head, _, rest = name.partition(".")
    code, colon, target = head.partition(":")
    parameter = _reference(known, resource_type, code)
    if not rest:
        raise BadOperand(f"'{name}' ends before the parameter that the chain leads to")
    canonical = not refers(parameter, resource_type)
    targets = targets_of(parameter, resource_type)
    if not colon:
        return Forward(parameter, targets, rest, canonical)
    if not is_resource_type(target):
        raise BadOperand(f"'{target}' is not a resource type of R4")
    if target not in targets:
        raise BadOperand(_never(code, target, targets))
    return Forward(parameter, (target,), rest, canonical)


def reverse(known: ParameterSet, resource_type: str, name: str) -> Reverse:
    """The first step of a reverse chain.

    Raises:
        Unknown: where that reference never leads to the resource type.
        BadOperand: as `forward`.
    """
    parts = name.split(":", 3)
    if len(parts) != 4 or not all(parts):
        raise BadOperand(HAS_FORM)
    _, source, code, rest = parts
    if not is_resource_type(source):
        raise BadOperand(f"'{source}' is not a resource type of R4")
    try:
        parameter = _reference(known, source, code)
    except Unknown as error:
        raise BadOperand(f"{error}") from None
    targets = targets_of(parameter, source)
    if resource_type not in targets:
        raise Unknown(_never(code, resource_type, targets))
    return Reverse(source, parameter, rest, not refers(parameter, source))


def forms(target: str, base: str) -> tuple[str, ...]:
    """What stands before the id in references to a resource of the type on this server."""
    return f"{target}/", f"{base}/{target}/"


def nowhere(link: Forward) -> str:
    """No type that the reference may lead to knows the rest."""
    head = link.rest.split(".")[0].split(":")[0]
    types = f"{len(link.targets)} types" if len(link.targets) > 8 else " or ".join(link.targets)
    return (
        f"'{head}' is not a search parameter of {types}, which {link.parameter.code} may refer to"
    )


def _reference(known: ParameterSet, resource_type: str, code: str) -> SearchParameter:
    indexed = known.indexed(resource_type)
    parameter = indexed.get(code)
    if unready := known.unready(resource_type, code):
        raise BadOperand(unready)
    if parameter is None or parameter.type != "reference":
        references = sorted(name for name, one in indexed.items() if one.type == "reference")
        raise Unknown(
            f"'{code}' is not a reference parameter of {resource_type}; {', '.join(references)} are"
        )
    if not targets_of(parameter, resource_type):
        raise NotSupported(
            f"{code} of {resource_type} holds what stands in the resource itself; chains over it "
            "are not supported"
        )
    return parameter


def _never(code: str, target: str, targets: tuple[str, ...]) -> str:
    return f"{code} never refers to a {target}; it refers to {', '.join(targets)}"
