"""Which profiles a resource has to fit: those that it claims and those that are required of it.

Source: `meta.profile`, https://hl7.org/fhir/R4/resource.html#profile-tags. The table of what is
required by default is the project's own: what the keyworking service's resources are agreed to
look like.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fhir_server.validation.profiles.library import Library

KEYWORKING: Final = "https://keyworking.example/fhir"


class Requirement(NamedTuple):
    """A profile of the resources of a type that have a code at an element, '' for all of them.

    `code` is `system|code`; the element is a CodeableConcept, repeated or not, or a Coding.
    """

    profile: str
    element: str = ""
    code: str = ""


Requirements = Mapping[str, Sequence[Requirement]]


def _kw(name: str, element: str, system: str, code: str) -> Requirement:
    profile = f"{KEYWORKING}/StructureDefinition/kw-{name}"
    return Requirement(profile, element, f"{KEYWORKING}/CodeSystem/{system}|{code}")


_PLANS: Final = {
    "keyworking-plan": "care-plan",
    "discharge-plan": "discharge-plan",
    "step-down-plan": "step-down-plan",
    "transition-plan": "transition-plan",
}
LENIENT: Final = ("https://fhir.hl7.org.uk/StructureDefinition/Extension-*",)
"""Real senders, the Personal Demographics Service among them, write some of UK Core's extensions
otherwise than UK Core says; what they send is R4 and is wanted."""
DEFAULT: Final[Requirements] = {
    "CarePlan": tuple(
        _kw(profile, "category", "care-plan-category", code) for code, profile in _PLANS.items()
    ),
    "Flag": (_kw("rating-flag", "category", "flag-category", "dsr-admission-risk"),),
    "EpisodeOfCare": (_kw("episode-of-care", "type", "episode-type", "keyworking"),),
    "Consent": tuple(
        _kw("consent", "category", "consent-category", code)
        for code in ("register", "keyworking", "cetr")
    ),
}


def claimed(resource: Mapping[str, Any]) -> list[str]:
    """The canonicals in `meta.profile`."""
    meta = resource.get("meta")
    profiles = meta.get("profile") if isinstance(meta, Mapping) else None
    given = profiles if isinstance(profiles, list) else []
    return [profile for profile in given if isinstance(profile, str)]


def required(resource: Mapping[str, Any], requirements: Requirements) -> list[str]:
    wanted = requirements.get(str(resource.get("resourceType")), ())
    elements = {each.element for each in wanted}
    codes = {name: set(codes_at(resource.get(name))) for name in elements}
    return [each.profile for each in wanted if not each.element or each.code in codes[each.element]]


def codes_at(value: Any) -> Iterator[str]:
    """`system|code` of every coding."""
    if isinstance(value, list):
        for item in value:
            yield from codes_at(item)
    elif isinstance(value, dict):
        system, code, codings = value.get("system"), value.get("code"), value.get("coding")
        if isinstance(codings, list):
            yield from codes_at(codings)
        elif isinstance(system, str) and isinstance(code, str):
            yield f"{system}|{code}"


def require_known(library: Library, requirements: Requirements) -> None:
    """A profile that is required and not there would be one that everything fits.

    Raises:
        ValueError: naming it.
    """
    for each in (one for of_type in requirements.values() for one in of_type):
        if not library.is_known(each.profile):
            raise ValueError(f"the required profile {each.profile} is not known")


def read_requirement(text: str) -> tuple[str, Requirement]:
    """`CarePlan=canonical` or `CarePlan:category=system|code=canonical`, as a setting has it.

    Raises:
        ValueError: saying what is expected.
    """
    what, _, rest = text.partition("=")
    type_name, _, element = what.partition(":")
    code, separator, profile = rest.rpartition("=")
    if not type_name or ":" not in profile or bool(element) != bool(separator):
        raise ValueError(
            f"'{text}' is not Type=profile or Type:element=system|code=profile, "
            "such as CarePlan=https://example.org/StructureDefinition/plan"
        )
    return type_name, Requirement(profile, element, code)
